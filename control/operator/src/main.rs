//! `mixctl`, the operator's command line.
#![deny(clippy::print_stdout, clippy::print_stderr)]

fn main() -> std::process::ExitCode {
    operator::cli::main()
}
