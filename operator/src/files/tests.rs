use std::fs;

use super::*;

const LISTENER: &str = "apiVersion: getambassador.io/v3alpha1\nkind: Listener\nmetadata: {name: a}\nspec: {port: 8080, protocol: HTTP, securityModel: XFP, hostBinding: {namespace: {from: ALL}}}\n";

fn mapping(name: &str, prefix: &str) -> String {
    format!(
        "apiVersion: getambassador.io/v3alpha1\nkind: Mapping\nmetadata: {{name: {name}}}\nspec: {{hostname: '*', prefix: {prefix}, service: '10.0.0.1'}}\n"
    )
}

fn names(changes: &[Change]) -> Vec<String> {
    changes
        .iter()
        .flat_map(|change| match change {
            Change::Apply(_, found) => vec![format!("+{}", found.object)],
            Change::Delete(_, object) => vec![format!("-{object}")],
            Change::Replace(_, _, all) => {
                all.iter().map(|found| found.object.to_string()).collect()
            }
            Change::ReplaceOwned(_, owned) => {
                let all = owned.objects.iter();
                all.map(|found| format!("{} of {}", found.object, owned.owner))
                    .collect()
            }
            Change::OldestEnvoy(version) => vec![version.to_string()],
            Change::Consul(service, _) => vec![service.to_string()],
        })
        .collect()
}

fn write(directory: &tempfile::TempDir, name: &str, text: impl AsRef<[u8]>) {
    let path = directory.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn every_document_of_every_file_is_read() {
    let directory = tempfile::tempdir().unwrap();
    write(
        &directory,
        "a.yaml",
        format!("# comment\n---\n{LISTENER}---\n{}", mapping("m", "/a/")),
    );
    write(&directory, "deep/er/b.yml", mapping("next", "/b/"));
    write(
        &directory,
        "c.json",
        r#"{"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "x"}}]}"#,
    );
    write(&directory, ".hidden.yaml", mapping("hidden", "/"));
    write(&directory, "notes.txt", "not a manifest");
    let changes = load(&Directory::served(directory.path()), &Settings::default()).unwrap();
    assert_eq!(
        names(&changes),
        [
            "Listener default/a",
            "Mapping default/m",
            "Mapping default/next",
            "Service x/s"
        ]
    );
    assert_eq!(
        changes.len(),
        Kind::ALL.len(),
        "one list per kind, even if empty"
    );
}

#[test]
fn a_document_that_is_not_an_object_has_a_report_and_hides_nothing() {
    let directory = tempfile::tempdir().unwrap();
    write(
        &directory,
        "a.yaml",
        format!(
            "kind: [unclosed\n---\njust text\n---\n{}",
            mapping("m", "/a/")
        ),
    );
    write(&directory, "b.yaml", [0xff, 0xfe, 0x00]);
    write(&directory, "c.yaml", mapping("m", "/again/"));
    write(
        &directory,
        "d.yaml",
        "apiVersion: example.com/v1\nkind: Toaster\nmetadata: {name: t}\n",
    );
    write(&directory, "e.yaml", "");
    let changes = load(&Directory::served(directory.path()), &Settings::default()).unwrap();
    assert_eq!(
        names(&changes),
        [
            "Mapping default/m",
            "a.yaml#1",
            "a.yaml#2",
            "b.yaml",
            "c.yaml#Mapping default/m",
            "d.yaml#1"
        ]
    );
}

#[test]
fn only_what_differs_is_sent_after_an_edit() {
    let directory = tempfile::tempdir().unwrap();
    write(
        &directory,
        "a.yaml",
        format!("{}---\n{}", mapping("m", "/a/"), mapping("next", "/n/")),
    );
    let settings = Settings::default();
    let mut files = Files::new(&Directory::served(directory.path()), &settings);
    files.scan().unwrap();
    files.everything();
    files.scan().unwrap();
    assert!(files.differences().is_empty());
    write(
        &directory,
        "new.yaml",
        format!("{}---\n{}", mapping("m", "/other/"), mapping("o", "/o/")),
    );
    fs::rename(
        directory.path().join("new.yaml"),
        directory.path().join("a.yaml"),
    )
    .unwrap();
    files.scan().unwrap();
    assert_eq!(
        names(&files.differences()),
        [
            "+Mapping default/m",
            "+Mapping default/o",
            "-Mapping default/next"
        ]
    );
}

#[tokio::test]
async fn edits_are_followed_and_a_vanished_directory_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let below = directory.path().join("manifests");
    write(&directory, "manifests/a.yaml", mapping("m", "/a/"));
    let (sender, mut changes) = mpsc::channel(8);
    let path = below.clone();
    let task = tokio::spawn(async move {
        follow(
            &Directory::served(&path),
            &Settings::default(),
            sender.into(),
            &Notify::new(),
            oneshot::channel().0,
        )
        .await
    });
    assert_eq!(
        names(&changes.recv().await.unwrap().changes),
        ["Mapping default/m"]
    );
    write(&directory, "manifests/b.yaml", mapping("next", "/b/"));
    assert_eq!(
        names(&changes.recv().await.unwrap().changes),
        ["+Mapping default/next"]
    );
    fs::rename(&below, directory.path().join("away")).unwrap();
    fs::rename(directory.path().join("away"), &below).unwrap();
    write(&directory, "manifests/c.yaml", mapping("o", "/c/"));
    assert_eq!(
        names(&changes.recv().await.unwrap().changes),
        ["+Mapping default/o"]
    );
    drop(changes);
    write(&directory, "manifests/d.yaml", mapping("p", "/d/"));
    task.await.unwrap().unwrap();
}

#[test]
fn an_edit_that_leaves_size_and_times_as_they_were_is_seen() {
    let directory = tempfile::tempdir().unwrap();
    write(&directory, "a.yaml", mapping("m", "/a/"));
    // a time in the future is as useless as the current one, and does not depend on how fast this test runs
    let time = SystemTime::now() + Duration::from_secs(3600);
    let set_time = || {
        let path = directory.path().join("a.yaml");
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(time).unwrap();
    };
    set_time();
    let settings = Settings::default();
    let mut files = Files::new(&Directory::served(directory.path()), &settings);
    files.scan().unwrap();
    files.everything();
    write(&directory, "a.yaml", mapping("m", "/b/"));
    set_time();
    files.scan().unwrap();
    assert_eq!(names(&files.differences()), ["+Mapping default/m"]);
}

#[test]
fn a_link_to_a_directory_above_is_not_followed_in_circles() {
    let directory = tempfile::tempdir().unwrap();
    write(&directory, "below/a.yaml", mapping("m", "/a/"));
    std::os::unix::fs::symlink(directory.path(), directory.path().join("below/loop")).unwrap();
    let changes = load(&Directory::served(directory.path()), &Settings::default()).unwrap();
    assert_eq!(names(&changes), ["Mapping default/m"]);
}

#[test]
fn a_mounted_config_map_is_read_once() {
    let directory = tempfile::tempdir().unwrap();
    write(&directory, "..2026_01/a.yaml", mapping("m", "/a/"));
    let link = |to: &str, name: &str| {
        std::os::unix::fs::symlink(to, directory.path().join(name)).unwrap();
    };
    link("..2026_01", "..data");
    link("..data/a.yaml", "a.yaml");
    let settings = Settings::default();
    let mut files = Files::new(&Directory::served(directory.path()), &settings);
    files.scan().unwrap();
    assert_eq!(names(&files.everything()), ["Mapping default/m"]);
    // an update is another directory, to which the link is moved
    write(&directory, "..2026_02/a.yaml", mapping("m", "/b/"));
    link("..2026_02", "..data_tmp");
    fs::rename(
        directory.path().join("..data_tmp"),
        directory.path().join("..data"),
    )
    .unwrap();
    files.scan().unwrap();
    assert_eq!(names(&files.differences()), ["+Mapping default/m"]);
}

#[tokio::test]
async fn reading_is_not_an_event_and_an_edit_is() {
    let directory = tempfile::tempdir().unwrap();
    write(&directory, "deep/a.yaml", LISTENER);
    let (events, mut waker) = mpsc::channel(1);
    let _watch = Watch::start(directory.path(), events).unwrap();
    let settings = Settings::default();
    let mut files = Files::new(&Directory::served(directory.path()), &settings);
    for _ in 0..3 {
        files.scan().unwrap();
        fs::read(directory.path().join("deep/a.yaml")).unwrap();
    }
    let wait = Duration::from_millis(100);
    assert!(
        timeout(wait, waker.recv()).await.is_err(),
        "reading sent an event"
    );
    write(&directory, "deep/a.yaml", mapping("m", "/a/"));
    assert!(
        timeout(RESCAN, waker.recv()).await.is_ok(),
        "the edit sent no event"
    );
}

#[test]
fn what_cannot_be_read_hides_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    write(&directory, "a.yaml", mapping("m", "/a/"));
    let link = |to: &str, name: &str| {
        std::os::unix::fs::symlink(to, directory.path().join(name)).unwrap();
    };
    link("round.yaml", "round.yaml");
    link("nothing.yaml", "dangling.yaml");
    fs::create_dir(directory.path().join("directory.yaml")).unwrap();
    let settings = Settings::default();
    let mut files = Files::new(&Directory::served(directory.path()), &settings);
    files.scan().unwrap();
    assert_eq!(names(&files.everything()), ["Mapping default/m"]);
    let unreadable: Vec<_> = files.unreadable.iter().collect();
    assert_eq!(unreadable, [&directory.path().join("round.yaml")]);
}

#[test]
fn a_file_in_place_of_the_directory_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    write(&directory, "a.yaml", mapping("m", "/a/"));
    assert!(
        load(
            &Directory::served(&directory.path().join("a.yaml")),
            &Settings::default()
        )
        .is_err()
    );
    assert!(
        load(
            &Directory::served(&directory.path().join("b")),
            &Settings::default()
        )
        .is_err()
    );
}

#[test]
fn a_directory_whose_own_name_begins_with_a_dot_is_read() {
    let directory = tempfile::tempdir().unwrap();
    write(&directory, ".manifests/a.yaml", mapping("m", "/a/"));
    let changes = load(
        &Directory::served(&directory.path().join(".manifests")),
        &Settings::default(),
    )
    .unwrap();
    assert_eq!(names(&changes), ["Mapping default/m"]);
}

/// A link that cannot be followed: an error even for root, who may read every directory.
fn loop_of_links(path: &Path) {
    std::os::unix::fs::symlink(path, path).unwrap();
}

#[test]
fn only_regular_files_are_read() {
    let directory = tempfile::tempdir().unwrap();
    write(&directory, "a.yaml", mapping("m", "/a/"));
    let path = |name: &str| directory.path().join(name);
    let fifo = std::process::Command::new("mkfifo")
        .arg(path("b.yaml"))
        .status();
    assert!(fifo.unwrap().success());
    std::os::unix::fs::symlink("/dev/zero", path("c.yaml")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(path("d.yaml")).unwrap();
    std::os::unix::fs::symlink(path("a.yaml"), path("e.yaml")).unwrap();
    let changes = load(&Directory::served(directory.path()), &Settings::default()).unwrap();
    assert_eq!(
        names(&changes),
        [
            "Mapping default/m",
            "b.yaml",
            "c.yaml",
            "d.yaml",
            "e.yaml#Mapping default/m"
        ]
    );
}

#[test]
fn what_cannot_be_read_any_more_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    write(&directory, "a.yaml", mapping("a", "/a/"));
    write(&directory, "deep/b.yaml", mapping("b", "/b/"));
    let settings = Settings::default();
    let mut files = Files::new(&Directory::served(directory.path()), &settings);
    files.scan().unwrap();
    files.everything();
    let (folder, aside) = (
        directory.path().join("deep"),
        directory.path().join(".deep"),
    );
    fs::rename(&folder, &aside).unwrap();
    loop_of_links(&folder);
    files.scan().unwrap();
    assert!(files.differences().is_empty());
    // a file that cannot be read is reported, too
    let file = directory.path().join("a.yaml");
    let stamp = files.files[&file].stamp.unwrap_or_default();
    fs::remove_file(&file).unwrap();
    loop_of_links(&file);
    files.read(file.clone(), stamp);
    assert_eq!(names(&files.differences()), ["+a.yaml"]);
    fs::remove_file(&folder).unwrap();
    fs::remove_file(&file).unwrap();
    files.scan().unwrap();
    assert_eq!(
        names(&files.differences()),
        ["-Mapping default/a", "-Mapping default/b", "-a.yaml"]
    );
}

#[test]
fn a_signal_reads_files_that_seem_unchanged() {
    let directory = tempfile::tempdir().unwrap();
    write(&directory, "a.yaml", mapping("m", "/a/"));
    let settings = Settings::default();
    let mut files = Files::new(&Directory::served(directory.path()), &settings);
    files.scan().unwrap();
    files.everything();
    let file = files.files.values_mut().next().unwrap();
    file.objects.clear();
    file.stamp = Some(stamp(
        &fs::metadata(directory.path().join("a.yaml")).unwrap(),
    ));
    files.scan().unwrap();
    assert!(files.differences().is_empty(), "the stamp is equal");
    files.forget_stamps();
    files.scan().unwrap();
    assert!(files.differs);
}
