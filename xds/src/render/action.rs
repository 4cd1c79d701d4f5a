//! `envoy.config.route.v3.{RouteAction, RedirectAction}`

use crate::{
    ir::{self, HashPolicy, RateLimitPart, Rewrite},
    pb::envoy::{
        config::{
            core::v3::{RoutingPriority, RuntimeFractionalPercent},
            route::v3::{
                RateLimit, RedirectAction, RetryPolicy, RouteAction, rate_limit,
                redirect_action::{
                    PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier,
                },
                route_action::{
                    self, ClusterSpecifier, HostRewriteSpecifier, RequestMirrorPolicy,
                    UpgradeConfig, hash_policy,
                },
            },
        },
        r#type::matcher::v3::{RegexMatchAndSubstitute, RegexMatcher},
    },
};

/// Forwarding to an upstream.
pub(super) fn forward(forward: &ir::Forward) -> RouteAction {
    let mut action = RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(forward.cluster.to_string())),
        host_rewrite_specifier: forward
            .host
            .clone()
            .map(HostRewriteSpecifier::HostRewriteLiteral),
        timeout: Some(super::duration(forward.timeout)),
        idle_timeout: forward.idle_timeout.map(super::duration),
        retry_policy: forward.retry.as_deref().map(retry),
        request_mirror_policies: forward.mirrors.iter().map(mirror).collect(),
        hash_policy: forward.hash.as_deref().map(hash).into_iter().collect(),
        upgrade_configs: forward
            .upgrades
            .iter()
            .map(|protocol| UpgradeConfig {
                upgrade_type: protocol.clone(),
                ..UpgradeConfig::default()
            })
            .collect(),
        priority: if forward.high_priority {
            RoutingPriority::High.into()
        } else {
            RoutingPriority::Default.into()
        },
        rate_limits: forward.rate_limits.iter().map(rate_limit).collect(),
        ..RouteAction::default()
    };
    match &forward.rewrite {
        Rewrite::Keep => {}
        Rewrite::Prefix(text) | Rewrite::FullPath(text) => action.prefix_rewrite.clone_from(text),
        Rewrite::Regex {
            pattern,
            substitution,
        } => action.regex_rewrite = Some(regex_rewrite(pattern, substitution)),
    }
    action
}

/// Redirect of clients.
pub(super) fn redirect(redirect: &ir::Redirect) -> RedirectAction {
    RedirectAction {
        host_redirect: redirect.host.clone(),
        response_code: match redirect.code {
            Some(302) => RedirectResponseCode::Found,
            Some(303) => RedirectResponseCode::SeeOther,
            Some(307) => RedirectResponseCode::TemporaryRedirect,
            Some(308) => RedirectResponseCode::PermanentRedirect,
            Some(_) | None => RedirectResponseCode::MovedPermanently,
        }
        .into(),
        scheme_rewrite_specifier: redirect
            .scheme
            .clone()
            .map(SchemeRewriteSpecifier::SchemeRedirect),
        path_rewrite_specifier: match &redirect.path {
            Rewrite::Keep => None,
            Rewrite::FullPath(text) => Some(PathRewriteSpecifier::PathRedirect(text.clone())),
            Rewrite::Prefix(text) => Some(PathRewriteSpecifier::PrefixRewrite(text.clone())),
            Rewrite::Regex {
                pattern,
                substitution,
            } => Some(PathRewriteSpecifier::RegexRewrite(regex_rewrite(
                pattern,
                substitution,
            ))),
        },
        ..RedirectAction::default()
    }
}

/// Redirect to the same URL with https.
pub(super) fn https() -> RedirectAction {
    RedirectAction {
        scheme_rewrite_specifier: Some(SchemeRewriteSpecifier::HttpsRedirect(true)),
        ..RedirectAction::default()
    }
}

fn regex_rewrite(pattern: &str, substitution: &str) -> RegexMatchAndSubstitute {
    RegexMatchAndSubstitute {
        pattern: Some(RegexMatcher {
            regex: pattern.to_owned(),
            ..RegexMatcher::default()
        }),
        substitution: substitution.to_owned(),
    }
}

fn retry(policy: &ir::RetryPolicy) -> RetryPolicy {
    RetryPolicy {
        retry_on: policy.on.clone(),
        num_retries: policy.retries.map(super::uint32),
        per_try_timeout: policy.per_try_timeout.map(super::duration),
        ..RetryPolicy::default()
    }
}

fn mirror(mirror: &ir::Mirror) -> RequestMirrorPolicy {
    RequestMirrorPolicy {
        cluster: mirror.cluster.to_string(),
        runtime_fraction: Some(RuntimeFractionalPercent {
            default_value: Some(super::percentage(mirror.percentage)),
            ..RuntimeFractionalPercent::default()
        }),
        ..RequestMirrorPolicy::default()
    }
}

fn hash(policy: &HashPolicy) -> route_action::HashPolicy {
    use hash_policy::PolicySpecifier;
    let specifier = match policy {
        HashPolicy::Cookie { name, path, ttl } => PolicySpecifier::Cookie(hash_policy::Cookie {
            name: name.clone(),
            path: path.clone().unwrap_or_default(),
            ttl: ttl.map(super::duration),
            ..hash_policy::Cookie::default()
        }),
        HashPolicy::Header(name) => PolicySpecifier::Header(hash_policy::Header {
            header_name: name.clone(),
            ..hash_policy::Header::default()
        }),
        HashPolicy::SourceIp => {
            PolicySpecifier::ConnectionProperties(hash_policy::ConnectionProperties {
                source_ip: true,
            })
        }
    };
    route_action::HashPolicy {
        policy_specifier: Some(specifier),
        ..route_action::HashPolicy::default()
    }
}

fn rate_limit(limit: &ir::RateLimit) -> RateLimit {
    RateLimit {
        actions: limit
            .parts
            .iter()
            .map(|part| rate_limit::Action {
                action_specifier: Some(rate_limit_action(part)),
            })
            .collect(),
        ..RateLimit::default()
    }
}

fn rate_limit_action(part: &RateLimitPart) -> rate_limit::action::ActionSpecifier {
    use rate_limit::action::{
        ActionSpecifier, DestinationCluster, GenericKey, RemoteAddress, RequestHeaders,
        SourceCluster,
    };
    match part {
        RateLimitPart::SourceCluster => ActionSpecifier::SourceCluster(SourceCluster {}),
        RateLimitPart::DestinationCluster => {
            ActionSpecifier::DestinationCluster(DestinationCluster {})
        }
        RateLimitPart::RemoteAddress => ActionSpecifier::RemoteAddress(RemoteAddress {}),
        RateLimitPart::Fixed { key, value } => ActionSpecifier::GenericKey(GenericKey {
            descriptor_key: key.clone(),
            descriptor_value: value.clone(),
            ..GenericKey::default()
        }),
        RateLimitPart::Header {
            key,
            header,
            optional,
        } => ActionSpecifier::RequestHeaders(RequestHeaders {
            header_name: header.clone(),
            descriptor_key: key.clone(),
            skip_if_absent: *optional,
        }),
    }
}
