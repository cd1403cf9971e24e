//! Builds, takes in, checks and places systemd system extensions for images
//! made with Prism (Azure Linux Image Customizer).
//!
//! A [`session`] does everything that the program does. Each step returns data;
//! only the command line prints.
//!
//! ```no_run
//! use std::path::PathBuf;
//!
//! use prism_sysext::check::Allowed;
//! use prism_sysext::io::progress::Progress;
//! use prism_sysext::session::{BaseChoice, Placing, Request, Session, Stopped, open_root};
//! use prism_sysext::sign::passphrase::Secrets;
//!
//! # fn main() -> Result<(), Stopped> {
//! let rootfs = PathBuf::from("target-root");
//! let root = open_root(&rootfs)?;
//! let base = BaseChoice { rootfs: Some(rootfs), ..BaseChoice::default() };
//! let request = Request { config: "config.yaml".into(), base, ..Request::default() };
//! let (session, _noticed) = Session::open(&request)?;
//! let (progress, secrets) = (Progress::new(), Secrets::new(&|name| std::env::var(name).ok(), &|_| None));
//! let built = session.build(&secrets, &progress)?;
//! let prediction = session.predict(&progress)?;
//! if prediction.is_good(Allowed::default()) {
//!     session.place(&root, &built, Placing::default(), &progress)?;
//!     session.write_manifest(&built, &[])?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The modules in the order in which data flows; a line may import from lines above it, never from
//! below, and a test keeps it so:
//!
//! | modules | what they know |
//! |---|---|
//! | [`finding`] | what is reported |
//! | [`io`] | this machine: files, atomic writing, a root that no path can leave |
//! | [`systemd`] | what holds of systemd whatever the base is |
//! | [`tree`], [`image`], [`inspect`] | content, on-disk formats, looking at images |
//! | [`base`], [`prism`], [`mkosi`] | the target; Prism's config language; mkosi's |
//! | [`config`] | what the user wrote |
//! | [`sign`], [`check`] | keys and trust; what systemd will do, and what content lacks |
//! | [`plan`] | what will be done; prebuilt images are examined here |
//! | [`build`], [`place`], [`expand`] | doing it: images, a root file system, Prism's config |
//! | [`chain`] | several configs as one |
//! | [`session`] | the library's entry |
//! | [`output`] | JSON, schemas, SARIF, JUnit |
//! | [`cli`] | flags, verbs, text |

pub mod base;
pub mod build;
pub mod chain;
pub mod check;
pub mod cli;
pub mod config;
pub mod expand;
pub mod finding;
pub mod image;
pub mod inspect;
pub mod io;
pub mod mkosi;
pub mod output;
pub mod place;
pub mod plan;
pub mod prism;
pub mod session;
pub mod sign;
pub mod systemd;
pub mod tree;

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// The modules in the order of the table above.
    const ORDER: &[&str] = &[
        "finding", "io", "systemd", "tree", "image", "inspect", "base", "prism", "mkosi", "config",
        "sign", "check", "plan", "build", "place", "expand", "chain", "session", "output", "cli",
    ];

    fn rank(module: &str) -> Option<usize> {
        ORDER.iter().position(|known| *known == module)
    }

    /// What a text names below `crate::`, also several in braces.
    fn imported(text: &str) -> Vec<&str> {
        let mut found = Vec::new();
        for rest in text.split("crate::").skip(1) {
            let names = match rest.strip_prefix('{') {
                Some(list) => list.split('}').next().unwrap_or_default().split(','),
                None => rest.split(' ').next().unwrap_or_default().split('\n'),
            };
            let word = |name: &'_ str| -> usize {
                let end = name.find(|c: char| !c.is_alphanumeric() && c != '_');
                end.unwrap_or(name.len())
            };
            let names = names.map(str::trim).map(|name| name.split_at(word(name)).0);
            found.extend(names.filter(|name| rank(name).is_some()));
        }
        found
    }

    #[test]
    fn imports_run_downwards() {
        let src = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
        let (mut upward, mut seen) = (Vec::new(), 0);
        for entry in walkdir::WalkDir::new(src) {
            let entry = entry.unwrap();
            let inside = entry.path().strip_prefix(src).unwrap();
            let module = inside.iter().next().and_then(|name| name.to_str());
            let Some(own) = module.and_then(rank) else {
                continue;
            };
            if entry.file_type().is_file() && entry.path().extension().is_some_and(|it| it == "rs")
            {
                let text = std::fs::read_to_string(entry.path()).unwrap();
                let names = imported(&text);
                seen += names.len();
                let above = names.into_iter().filter(|name| rank(name) > Some(own));
                upward.extend(above.map(|name| format!("{} imports {name}", inside.display())));
            }
        }
        assert!(upward.is_empty(), "{upward:#?}");
        assert!(seen > 500, "only {seen} imports were looked at");
    }

    #[test]
    fn every_form_of_import_is_seen() {
        let text = "use crate::cli::x;\nuse crate::{cli, plan::y};\nlet a = crate::base::b();\n";
        assert_eq!(imported(text), ["cli", "cli", "plan", "base"]);
    }
}
