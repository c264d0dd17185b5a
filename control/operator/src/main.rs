//! `mixctl`, the operator's command line.

fn main() -> std::process::ExitCode {
    operator::cli::main()
}
