//! The custom resources of `getambassador.io`: what users write.
