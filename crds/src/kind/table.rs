//! The rows.

use super::{KindInfo, Schema, Scope, Status, Version};
use crate::{GROUP, v3alpha1};

const V1: &[Version] = &[ours("v1")];
const V1ALPHA1: &[Version] = &[ours("v1alpha1")];
const V3ALPHA1: &[Version] = &[ours("v3alpha1")];
const SINCE_V2: &[Version] = &[other("v2"), ours("v3alpha1")];
const SINCE_V1: &[Version] = &[other("v1"), other("v2"), ours("v3alpha1")];

const fn ours(name: &'static str) -> Version {
    Version {
        name,
        is_ours: true,
    }
}

const fn other(name: &'static str) -> Version {
    Version {
        name,
        is_ours: false,
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident { $($field:ident: $value:expr,)* })*) => {
        /// A kind of object that configures the gateway. The order has no meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        /// The table: a row for each kind, in the order of [`Kind`].
        pub const KINDS: &[KindInfo] = &[$(KindInfo { kind: Kind::$kind, $($field: $value,)* },)*];
    };
}

kinds! {
    /// Resolver: the cluster IP of a Kubernetes Service.
    KubernetesServiceResolver {
        name: "KubernetesServiceResolver",
        group: GROUP,
        versions: SINCE_V1,
        plural: "kubernetesserviceresolvers",
        scope: Scope::Namespaced,
        status: Status::None,
        optional: true,
        schema: Schema::of::<v3alpha1::KubernetesServiceResolver>(),
    }

    /// Resolver: the endpoints of a Kubernetes Service.
    KubernetesEndpointResolver {
        name: "KubernetesEndpointResolver",
        group: GROUP,
        versions: SINCE_V1,
        plural: "kubernetesendpointresolvers",
        scope: Scope::Namespaced,
        status: Status::None,
        optional: true,
        schema: Schema::of::<v3alpha1::KubernetesEndpointResolver>(),
    }

    /// Resolver: the passing instances of a Consul service.
    ConsulResolver {
        name: "ConsulResolver",
        group: GROUP,
        versions: SINCE_V1,
        plural: "consulresolvers",
        scope: Scope::Namespaced,
        status: Status::Conditions,
        optional: true,
        schema: Schema::of::<v3alpha1::ConsulResolver>(),
    }

    /// TLS settings for Hosts, Mappings and TCPMappings.
    TlsContext {
        name: "TLSContext",
        group: GROUP,
        versions: SINCE_V1,
        plural: "tlscontexts",
        scope: Scope::Namespaced,
        status: Status::Conditions,
        optional: true,
        schema: Schema::of::<v3alpha1::TLSContext>(),
    }

    /// A port that Envoys listen on.
    Listener {
        name: "Listener",
        group: GROUP,
        versions: V3ALPHA1,
        plural: "listeners",
        scope: Scope::Namespaced,
        status: Status::Conditions,
        optional: true,
        schema: Schema::of::<v3alpha1::Listener>(),
    }

    /// A hostname with its certificate.
    Host {
        name: "Host",
        group: GROUP,
        versions: SINCE_V2,
        plural: "hosts",
        scope: Scope::Namespaced,
        status: Status::Host,
        optional: true,
        schema: Schema::of::<v3alpha1::Host>(),
    }

    /// A route for HTTP requests.
    Mapping {
        name: "Mapping",
        group: GROUP,
        versions: SINCE_V1,
        plural: "mappings",
        scope: Scope::Namespaced,
        status: Status::Mapping,
        optional: true,
        schema: Schema::of::<v3alpha1::Mapping>(),
    }

    /// A route for TCP connections.
    TcpMapping {
        name: "TCPMapping",
        group: GROUP,
        versions: SINCE_V1,
        plural: "tcpmappings",
        scope: Scope::Namespaced,
        status: Status::Conditions,
        optional: true,
        schema: Schema::of::<v3alpha1::TCPMapping>(),
    }

    /// Settings of the whole gateway.
    Module {
        name: "Module",
        group: GROUP,
        versions: SINCE_V1,
        plural: "modules",
        scope: Scope::Namespaced,
        status: Status::Conditions,
        optional: true,
        schema: Schema::of::<v3alpha1::Module>(),
    }

    /// An external service that authorizes requests.
    AuthService {
        name: "AuthService",
        group: GROUP,
        versions: SINCE_V1,
        plural: "authservices",
        scope: Scope::Namespaced,
        status: Status::Conditions,
        optional: true,
        schema: Schema::of::<v3alpha1::AuthService>(),
    }

    /// An external service that limits the rate of requests.
    RateLimitService {
        name: "RateLimitService",
        group: GROUP,
        versions: SINCE_V1,
        plural: "ratelimitservices",
        scope: Scope::Namespaced,
        status: Status::Conditions,
        optional: true,
        schema: Schema::of::<v3alpha1::RateLimitService>(),
    }

    /// An external service that gets access logs.
    LogService {
        name: "LogService",
        group: GROUP,
        versions: SINCE_V1,
        plural: "logservices",
        scope: Scope::Namespaced,
        status: Status::Conditions,
        optional: true,
        schema: Schema::of::<v3alpha1::LogService>(),
    }

    /// An external service that gets traces.
    TracingService {
        name: "TracingService",
        group: GROUP,
        versions: SINCE_V1,
        plural: "tracingservices",
        scope: Scope::Namespaced,
        status: Status::Conditions,
        optional: true,
        schema: Schema::of::<v3alpha1::TracingService>(),
    }

    /// A kind without effect.
    DevPortal {
        name: "DevPortal",
        group: GROUP,
        versions: SINCE_V1,
        plural: "devportals",
        scope: Scope::Namespaced,
        status: Status::Conditions,
        optional: true,
        schema: Schema::of::<v3alpha1::DevPortal>(),
    }

    /// A Service of Kubernetes.
    Service {
        name: "Service",
        group: "",
        versions: V1,
        plural: "services",
        scope: Scope::Namespaced,
        status: Status::None,
        optional: false,
        schema: None,
    }

    /// Endpoints of a Service.
    EndpointSlice {
        name: "EndpointSlice",
        group: "discovery.k8s.io",
        versions: V1,
        plural: "endpointslices",
        scope: Scope::Namespaced,
        status: Status::None,
        optional: false,
        schema: None,
    }

    /// A Secret, for certificates.
    Secret {
        name: "Secret",
        group: "",
        versions: V1,
        plural: "secrets",
        scope: Scope::Namespaced,
        status: Status::None,
        optional: false,
        schema: None,
    }

    /// A Namespace, for its labels.
    Namespace {
        name: "Namespace",
        group: "",
        versions: V1,
        plural: "namespaces",
        scope: Scope::Cluster,
        status: Status::None,
        optional: false,
        schema: None,
    }

    /// A route for HTTP requests, in the terms of Kubernetes.
    Ingress {
        name: "Ingress",
        group: "networking.k8s.io",
        versions: V1,
        plural: "ingresses",
        scope: Scope::Namespaced,
        status: Status::None,
        optional: false,
        schema: None,
    }

    /// A route for HTTP requests, as Knative Serving writes it.
    KnativeIngress {
        name: "Ingress",
        group: "networking.internal.knative.dev",
        versions: V1ALPHA1,
        plural: "ingresses",
        scope: Scope::Namespaced,
        status: Status::Knative,
        optional: true,
        schema: None,
    }

    /// Which controller serves the Ingresses of a class.
    IngressClass {
        name: "IngressClass",
        group: "networking.k8s.io",
        versions: V1,
        plural: "ingressclasses",
        scope: Scope::Cluster,
        status: Status::None,
        optional: false,
        schema: None,
    }

    /// A document in a file that holds no object of a known kind. It exists so that such input has a report of its own;
    /// its name is `FILE#DOCUMENT`.
    Document {
        name: "Document",
        group: "",
        versions: &[],
        plural: "",
        scope: Scope::File,
        status: Status::None,
        optional: true,
        schema: None,
    }
}
