//! A TracingService: a service that gets traces.

use nuncio_crds::v3alpha1::{TraceSampling, TracingDriver, TracingServiceSpec};
use serde_json::Value;

use super::{
    Found, Fragment, Sampling, TracingService, edge, parse, replaced, upstream::UpstreamFields,
};
use crate::{object::ObjectRef, report::Problem, settings::Settings};

mod driver;
mod tag;

pub(super) fn reconcile(value: Value, object: &ObjectRef, settings: &Settings) -> Found {
    let (spec, mut problems): (TracingServiceSpec, _) = match parse::spec(value, object.kind, true)
    {
        Ok(parsed) => parsed,
        Err(problem) => return (None, vec![problem]),
    };
    match service(&spec, object, settings, &mut problems) {
        Ok(service) => (Some(Fragment::TracingService(service.into())), problems),
        Err(problem) => {
            problems.push(problem);
            (None, problems)
        }
    }
}

fn service(
    spec: &TracingServiceSpec,
    object: &ObjectRef,
    settings: &Settings,
    problems: &mut Vec<Problem>,
) -> Result<TracingService, Problem> {
    let driver = driver::driver(spec, problems)?;
    let fields = UpstreamFields {
        service: &spec.service,
        grpc: Some(spec.driver == TracingDriver::Opentelemetry),
        stats_name: spec.stats_name.as_deref(),
        ..UpstreamFields::default()
    };
    Ok(TracingService {
        upstream: edge::upstream(fields, object, settings, problems)?,
        driver,
        sampling: sampling(spec.sampling.as_ref(), problems),
        tags: tag::tags(spec, problems),
    })
}

fn sampling(sampling: Option<&TraceSampling>, problems: &mut Vec<Problem>) -> Sampling {
    let Some(sampling) = sampling else {
        return Sampling::default();
    };
    let mut percentage = |field: &str, value: Option<i64>| {
        let value = value?;
        let found = u32::try_from(value).ok().filter(|value| *value <= 100);
        if found.is_none() {
            let path = format!("spec.sampling.{field}");
            problems.push(replaced(
                path,
                "must be from 0 to 100",
                "the default of 100",
            ));
        }
        found
    };
    Sampling {
        client: percentage("client", sampling.client),
        random: percentage("random", sampling.random),
        overall: percentage("overall", sampling.overall),
    }
}
