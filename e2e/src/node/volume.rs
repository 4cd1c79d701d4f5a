//! The volumes of a Pod: directories on the node, whose files follow the objects that they come from.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use k8s_openapi::{
    ByteString,
    api::core::v1::{DownwardAPIVolumeFile, KeyToPath, Pod, PodSpec, Volume, VolumeProjection},
};
use kube::ResourceExt as _;

use super::{Shared, environment};

mod atomic;
mod token;

use self::{
    atomic::{AtomicFolder, File, Files},
    token::Tokens,
};

/// Files that a Secret or ConfigMap holds.
type Data = BTreeMap<String, Vec<u8>>;

/// The volumes of one Pod.
pub(super) struct Volumes {
    shared: Arc<Shared>,
    folder: PathBuf,
    address: String,
    written: BTreeMap<String, AtomicFolder>,
    tokens: Tokens,
}

impl Volumes {
    /// None yet; they are made in `folder`.
    pub(super) fn new(shared: Arc<Shared>, folder: PathBuf, address: String) -> Self {
        Self {
            tokens: Tokens::new(shared.clone()),
            shared,
            folder,
            address,
            written: BTreeMap::new(),
        }
    }

    /// The directory of a volume.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Makes and updates them. An error is that of the first one that cannot be made; the others are.
    pub(super) async fn refresh(&mut self, pod: &Pod) -> Result<()> {
        let spec = pod.spec.clone().unwrap_or_default();
        let mut result = Ok(());
        for volume in spec.volumes.iter().flatten() {
            let refreshed = self.refresh_one(pod, &spec, volume).await;
            let refreshed = refreshed.with_context(|| format!("volume {}", volume.name));
            result = result.and(refreshed);
        }
        result
    }

    async fn refresh_one(&mut self, pod: &Pod, spec: &PodSpec, volume: &Volume) -> Result<()> {
        let path = self.path(&volume.name);
        let group = group(spec);
        if volume.empty_dir.is_some() {
            if !path.exists() {
                fs::create_dir_all(&path)?;
                fs::set_permissions(&path, fs::Permissions::from_mode(0o777))?;
            }
            return Ok(());
        }
        let files = self.files(pod, spec, volume).await?;
        let written = self
            .written
            .entry(volume.name.clone())
            .or_insert_with(|| AtomicFolder::new(path));
        written.write(files, group)
    }

    async fn files(&mut self, pod: &Pod, spec: &PodSpec, volume: &Volume) -> Result<Files> {
        let namespace = pod.namespace().unwrap_or_default();
        if let Some(secret) = &volume.secret {
            let name = secret.secret_name.clone().unwrap_or_default();
            let data = self.secret(&namespace, &name, secret.optional)?;
            let items = secret.items.as_deref();
            return chosen(&data, items, mode(secret.default_mode), secret.optional);
        }
        if let Some(map) = &volume.config_map {
            let data = self.config_map(&namespace, &map.name, map.optional)?;
            let items = map.items.as_deref();
            return chosen(&data, items, mode(map.default_mode), map.optional);
        }
        if let Some(source) = &volume.downward_api {
            let items = source.items.iter().flatten();
            return self.downward(pod, spec, items, mode(source.default_mode));
        }
        let Some(projected) = &volume.projected else {
            bail!("unsupported type of volume");
        };
        let mut files = Files::new();
        for source in projected.sources.iter().flatten() {
            let mode = mode(projected.default_mode);
            files.extend(self.projection(pod, spec, source, mode).await?);
        }
        Ok(files)
    }

    async fn projection(
        &mut self,
        pod: &Pod,
        spec: &PodSpec,
        source: &VolumeProjection,
        mode: u32,
    ) -> Result<Files> {
        let namespace = pod.namespace().unwrap_or_default();
        if let Some(secret) = &source.secret {
            let data = self.secret(&namespace, &secret.name, secret.optional)?;
            return chosen(&data, secret.items.as_deref(), mode, secret.optional);
        }
        if let Some(map) = &source.config_map {
            let data = self.config_map(&namespace, &map.name, map.optional)?;
            return chosen(&data, map.items.as_deref(), mode, map.optional);
        }
        if let Some(downward) = &source.downward_api {
            return self.downward(pod, spec, downward.items.iter().flatten(), mode);
        }
        let Some(token) = &source.service_account_token else {
            bail!("unsupported projection");
        };
        let content = self.tokens.current(pod, token).await?.into_bytes();
        // as a kubelet: readable by the user or the group of the Pod alone, if it has one
        let user = user(spec);
        let mode = if user.is_some() || group(spec).is_some() {
            0o600
        } else {
            mode
        };
        let file = File {
            content,
            mode,
            user,
        };
        Ok(Files::from([(token.path.clone(), file)]))
    }

    fn secret(&self, namespace: &str, name: &str, optional: Option<bool>) -> Result<Data> {
        let secret = self.shared.cluster.secrets.get(namespace, name);
        let data = secret.map(|secret| bytes(secret.data.clone()));
        found(data, optional, "Secret", name)
    }

    fn config_map(&self, namespace: &str, name: &str, optional: Option<bool>) -> Result<Data> {
        let map = self.shared.cluster.config_maps.get(namespace, name);
        let data = map.map(|map| {
            let texts = map.data.clone().unwrap_or_default().into_iter();
            let mut data = bytes(map.binary_data.clone());
            data.extend(texts.map(|(name, text)| (name, text.into_bytes())));
            data
        });
        found(data, optional, "ConfigMap", name)
    }

    fn downward<'a>(
        &self,
        pod: &Pod,
        spec: &PodSpec,
        items: impl Iterator<Item = &'a DownwardAPIVolumeFile>,
        mode: u32,
    ) -> Result<Files> {
        let mut files = Files::new();
        for item in items {
            let text = if let Some(field) = &item.field_ref {
                environment::field_of(pod, &field.field_path, &self.address)?
            } else if let Some(resource) = &item.resource_field_ref {
                let name = resource.container_name.as_deref();
                let mut containers = spec.containers.iter();
                let container = containers.find(|container| Some(&*container.name) == name);
                let divisor = resource.divisor.as_ref().map_or("1", |divisor| &divisor.0);
                let container = container.context("resourceFieldRef without a container")?;
                environment::resource_of(container, &resource.resource, divisor)?
            } else {
                bail!("unsupported item of the downward API");
            };
            let mode = item.mode.map_or(mode, i32::cast_unsigned);
            files.insert(item.path.clone(), File::new(text.into_bytes(), mode));
        }
        Ok(files)
    }
}

fn mode(mode: Option<i32>) -> u32 {
    mode.map_or(0o644, i32::cast_unsigned)
}

/// The group that owns the volumes of a Pod.
fn group(spec: &PodSpec) -> Option<u32> {
    let group = spec.security_context.as_ref()?.fs_group?;
    u32::try_from(group).ok()
}

/// The user of all containers of a Pod, where it says so.
fn user(spec: &PodSpec) -> Option<u32> {
    let of_pod = spec
        .security_context
        .as_ref()
        .and_then(|context| context.run_as_user);
    let mut users = spec.containers.iter().map(|container| {
        let own = container.security_context.as_ref();
        own.and_then(|context| context.run_as_user).or(of_pod)
    });
    let first = users.next()??;
    let is_of_all = users.all(|user| user == Some(first));
    is_of_all.then(|| u32::try_from(first).ok())?
}

fn bytes(data: Option<BTreeMap<String, ByteString>>) -> Data {
    let data = data.unwrap_or_default().into_iter();
    data.map(|(name, value)| (name, value.0)).collect()
}

fn found(data: Option<Data>, optional: Option<bool>, kind: &str, name: &str) -> Result<Data> {
    match data {
        Some(data) => Ok(data),
        None if optional == Some(true) => Ok(Data::new()),
        None => bail!("{kind} {name} is missing"),
    }
}

/// The files that `items` choose; without them, all.
fn chosen(
    data: &Data,
    items: Option<&[KeyToPath]>,
    mode: u32,
    optional: Option<bool>,
) -> Result<Files> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        let files = data.iter();
        return Ok(files
            .map(|(name, content)| (name.clone(), File::new(content.clone(), mode)))
            .collect());
    };
    let mut files = Files::new();
    for item in items {
        match data.get(&item.key) {
            Some(content) => {
                let mode = item.mode.map_or(mode, i32::cast_unsigned);
                files.insert(item.path.clone(), File::new(content.clone(), mode));
            }
            None if optional == Some(true) => {}
            None => bail!("key {} is missing", item.key),
        }
    }
    Ok(files)
}

/// Writes the files that a kubelet manages in each Pod, and returns where they are seen.
pub(super) fn managed_files(
    folder: &Path,
    pod: &Pod,
    address: &str,
) -> Result<Vec<(PathBuf, &'static str)>> {
    fs::create_dir_all(folder)?;
    let (name, namespace) = (pod.name_any(), pod.namespace().unwrap_or_default());
    let contents = [
        (
            "resolv.conf",
            "/etc/resolv.conf",
            format!(
                "nameserver {}\nsearch {namespace}.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n",
                super::dns::ADDRESS
            ),
        ),
        (
            "hosts",
            "/etc/hosts",
            format!("127.0.0.1 localhost\n::1 localhost\n{address} {name}\n"),
        ),
        ("hostname", "/etc/hostname", format!("{name}\n")),
    ];
    let mut files = Vec::new();
    for (file, target, content) in contents {
        let path = folder.join(file);
        fs::write(&path, content)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
        files.push((path, target));
    }
    Ok(files)
}
