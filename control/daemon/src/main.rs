//! `mixctl`, the operator's command line.

fn main() -> std::process::ExitCode {
    control::cli::main()
}
