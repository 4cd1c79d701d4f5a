//! The one binary: parse, init logs, run.

use std::{
    env,
    io::{Write as _, stdout},
    process::ExitCode,
};

use clap::Parser as _;
use nuncio::{
    apiext,
    args::{Arguments, Command},
    bootstrap_command, demo, echo, envoy, envoy_command, migrate_storage, render_command, run,
    telemetry,
};
use nuncio_core::settings::{Fleets, Settings};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match execute(arguments) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "nuncio: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let level = match &arguments.command {
        Command::Apiext(_) => telemetry::level_of(env::var("AES_LOG_LEVEL").ok().as_deref()),
        _ => telemetry::DEFAULT_LEVEL,
    };
    telemetry::init(arguments.log_format, level)?;
    let variables = env::vars_os();
    let variables = variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let settings = Settings {
        variables: variables.collect(),
        ..Settings::from_env(|name| env::var(name).ok())?
    };
    let fleets = Fleets::split(settings.clone());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    match arguments.command {
        Command::Operator {
            options,
            servers,
            identity,
        } => runtime.block_on(run::operator(options, servers, identity, fleets?))?,
        Command::Serve {
            directory,
            servers,
            envoy,
        } => runtime.block_on(run::serve(&directory, servers, envoy, fleets?))?,
        Command::Demo { envoy, dir } => {
            runtime.block_on(demo::run(envoy, dir, fleets?.only()?.clone()))?
        }
        Command::Envoy(pod) => runtime.block_on(envoy_command::run(pod))?,
        Command::Render { directory, output } => {
            return render_command::run(&directory, output, fleets?.only()?);
        }
        Command::Echo { name, address } => runtime.block_on(echo::run(name, address))?,
        Command::Apiext(arguments) => runtime.block_on(apiext::run(arguments))?,
        Command::MigrateStorage(arguments) => {
            return runtime.block_on(migrate_storage::run(arguments));
        }
        Command::Attached {
            parent,
            program,
            arguments,
        } => match envoy::attached(parent, &program, &arguments)? {},
        Command::Bootstrap(arguments) => {
            let text = bootstrap_command::text(&arguments)?;
            stdout().write_all(text.as_bytes())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
