//! The command line as typed. Arguments are listed in --help in the order declared.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::check::{Allowed, Verdict};
use crate::output::schema::KINDS;
use crate::session;
use crate::session::BaseChoice;

/// System extensions for Prism (Azure Linux Image Customizer).
///
/// A `sysext:` section in Prism's config.yaml becomes signed images in a root file
/// system, or a plain Prism config. Every listed extension is merged at boot on the given
/// base, or the command fails with the reason and the fix.
#[derive(Debug, Parser)]
#[command(name = "prism-sysext", version, max_term_width = 100)]
pub(super) struct Cli {
    /// Form of the result on standard output.
    #[arg(long, global = true, value_enum, default_value_t = Output::Text, value_name = "FORM")]
    pub output: Output,
    /// Leave out warnings, notes and progress on standard error.
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Form of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people.
    Text,
    /// For programs; see the files in schema/.
    Json,
    /// What was found, for code scanning (SARIF 2.1.0).
    Sarif,
    /// What was found, for build servers (JUnit).
    Junit,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Build, check and expand, then run imagecustomizer with the same flags.
    Customize(Customize),
    /// Build, check, and place everything in a root file system.
    Apply(Apply),
    /// Build the images and the manifest.
    Build(Build),
    /// Write the plain Prism config.
    Expand(Expand),
    /// Check the config without building.
    ValidateConfig(ValidateConfig),
    /// Say what systemd will do at boot with each extension.
    Check(Check),
    /// Show what an image is.
    Inspect(Inspect),
    /// Tell what two images differ in; status 1 if they do.
    Diff(Diff),
    /// Check the hash tree and the signature of an image.
    Verify(Verify),
    /// Make keys and signatures.
    #[command(subcommand)]
    Sign(Sign),
    /// Take out what an earlier apply placed.
    Remove(Remove),
    /// Show the extensions, certificates and the service of a root file system.
    List(List),
    /// Print the `sysext:` block that is the same as a mkosi configuration.
    ImportMkosi(ImportMkosi),
    /// Print the JSON schema of a config file.
    Schema(Schema),
    /// Try everything on an embedded example, in a folder to look around in.
    Demo(Demo),
}

/// Where the config is.
#[derive(Debug, Clone, Args)]
pub(super) struct ConfigFile {
    /// The Prism config with the `sysext:` section.
    #[arg(long, value_name = "FILE", default_value = "./config.yaml")]
    pub config_file: PathBuf,
}

/// What the extensions will be merged on.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct BaseArgs {
    /// Folder that holds the base's root file system.
    #[arg(long, value_name = "DIR", conflicts_with = "target")]
    pub rootfs: Option<PathBuf>,
    /// Raw disk image that holds the base (GPT or one file system; ext4).
    #[arg(long, value_name = "IMAGE", conflicts_with_all = ["rootfs", "target"])]
    pub image_file: Option<PathBuf>,
    /// Built-in profile of the base, such as azurelinux-3.0.
    #[arg(long, value_name = "PROFILE")]
    pub target: Option<String>,
}

impl BaseArgs {
    /// As the library takes it.
    pub(super) fn choice(&self) -> BaseChoice {
        BaseChoice {
            rootfs: self.rootfs.clone(),
            image_file: self.image_file.clone(),
            input_image: None,
            target: self.target.clone(),
        }
    }
}

/// The base where Prism's own `--image-file` names an image as well.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct KnownBase {
    /// Folder that holds the base's root file system.
    #[arg(long, value_name = "DIR", conflicts_with = "target")]
    pub rootfs: Option<PathBuf>,
    /// Built-in profile of the base, such as azurelinux-3.0.
    #[arg(long, value_name = "PROFILE")]
    pub target: Option<String>,
}

/// What the caller takes on.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(super) struct Overrides {
    /// Go on when it can't be told whether an extension will be merged.
    #[arg(long)]
    pub allow_unknown: bool,
    /// Go on with a deferred image that is not signed yet.
    #[arg(long)]
    pub allow_unsigned: bool,
}

impl Overrides {
    /// As the verdicts see them.
    pub(super) fn allowed(self) -> Allowed {
        Allowed {
            unknown: self.allow_unknown,
            unsigned: self.allow_unsigned,
        }
    }
}

/// `customize`.
#[derive(Debug, Args)]
pub(super) struct Customize {
    /// The Prism config with the `sysext:` section.
    #[command(flatten)]
    pub config: ConfigFile,
    /// The program to run.
    #[arg(
        long,
        value_name = "PROGRAM",
        env = "PRISM_IMAGECUSTOMIZER",
        default_value = "imagecustomizer"
    )]
    pub imagecustomizer: OsString,
    /// The base.
    #[command(flatten)]
    pub base: KnownBase,
    /// Overrides.
    #[command(flatten)]
    pub overrides: Overrides,
    /// All other flags, passed on as they are.
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "FLAGS"
    )]
    pub flags: Vec<OsString>,
}

/// `apply`.
#[derive(Debug, Args)]
pub(super) struct Apply {
    /// Root file system that receives the extensions.
    #[arg(long, value_name = "DIR", required_unless_present = "image_file")]
    pub rootfs: Option<PathBuf>,
    /// Disk image; refused, with what to do instead.
    #[arg(long, value_name = "IMAGE", conflicts_with = "rootfs")]
    pub image_file: Option<PathBuf>,
    /// The config.
    #[command(flatten)]
    pub config: ConfigFile,
    /// Print the plan and stop.
    #[arg(long)]
    pub dry_run: bool,
    /// Write the plain Prism config as well.
    #[arg(long, value_name = "FILE")]
    pub expanded_config: Option<PathBuf>,
    /// Replace files that an earlier apply did not place.
    #[arg(long)]
    pub force: bool,
    /// Place what was built without predicting what systemd does with it.
    #[arg(long)]
    pub no_check: bool,
    /// Overrides.
    #[command(flatten)]
    pub overrides: Overrides,
}

/// `build`.
#[derive(Debug, Args)]
pub(super) struct Build {
    /// The config.
    #[command(flatten)]
    pub config: ConfigFile,
    /// Build only this extension (repeatable).
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// Folder for the images instead of the config's `outputDirectory`.
    #[arg(long, value_name = "DIR")]
    pub output_dir: Option<PathBuf>,
    /// Write SHA-256 and SHA-384 of the images into the manifest; takes as long as building them.
    #[arg(long)]
    pub digests: bool,
    /// The base.
    #[command(flatten)]
    pub base: BaseArgs,
    /// For hosts that Trident manages.
    #[command(flatten)]
    pub trident: TridentArgs,
}

/// For hosts that Trident manages.
#[derive(Debug, Default, Args)]
pub(super) struct TridentArgs {
    /// Also write the `os.sysexts` and `os.confexts` of a Trident host configuration.
    #[arg(long, value_name = "FILE")]
    pub trident: Option<PathBuf>,
    /// Where Trident fetches the images, with `{file}`, `{name}` or `{sha384}` in it.
    #[arg(long, value_name = "TEMPLATE", requires = "trident")]
    pub trident_url: Option<String>,
}

/// `expand`.
#[derive(Debug, Args)]
pub(super) struct Expand {
    /// The config.
    #[command(flatten)]
    pub config: ConfigFile,
    /// Where to write; `-` is standard output. Default: STEM.prism.yaml beside the config.
    #[arg(long, value_name = "FILE")]
    pub output_file: Option<PathBuf>,
    /// Where what is added goes.
    #[arg(long, value_enum, default_value_t = Style::Inline)]
    pub style: Style,
    /// Write nothing; exit with 1 if the file is stale.
    #[arg(long, conflicts_with = "trident")]
    pub check: bool,
    /// The base.
    #[command(flatten)]
    pub base: BaseArgs,
    /// Go on with a deferred image that is not signed yet.
    #[arg(long)]
    pub allow_unsigned: bool,
    /// For hosts that Trident manages.
    #[command(flatten)]
    pub trident: TridentArgs,
}

/// How `expand` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Style {
    /// Into a copy of the config.
    Inline,
    /// Into a small config on top; the copy, STEM.base.prism.yaml, only loses its section (Prism 1.1).
    Base,
}

impl From<Style> for session::Style {
    fn from(style: Style) -> session::Style {
        match style {
            Style::Inline => session::Style::Inline,
            Style::Base => session::Style::Base,
        }
    }
}

/// `validate-config`.
#[derive(Debug, Args)]
pub(super) struct ValidateConfig {
    /// The config.
    #[command(flatten)]
    pub config: ConfigFile,
    /// Also look at what the config names.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WHAT")]
    pub validate_resources: Vec<Resources>,
    /// The version of Prism that will read the file, such as 1.2; the newest one known by default.
    #[arg(long, value_name = "VERSION", value_parser = crate::prism::version)]
    pub prism_version: Option<(u32, u32)>,
    /// The base.
    #[command(flatten)]
    pub base: BaseArgs,
}

/// What a config may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Resources {
    /// Keys, certificates, trees and files.
    Files,
    /// Prebuilt images.
    Images,
}

impl From<Resources> for session::Resource {
    fn from(what: Resources) -> session::Resource {
        match what {
            Resources::Files => session::Resource::Files,
            Resources::Images => session::Resource::Images,
        }
    }
}

/// `check`.
#[derive(Debug, Args)]
pub(super) struct Check {
    /// Print what a finding means, and nothing else.
    #[arg(long, value_name = "ID", exclusive = true)]
    pub explain: Option<String>,
    /// Images to check instead of those of the config.
    #[arg(value_name = "IMAGE")]
    pub images: Vec<PathBuf>,
    /// The config.
    #[command(flatten)]
    pub config: ConfigFile,
    /// The base.
    #[command(flatten)]
    pub base: BaseArgs,
    /// Exit with 0 even if something can't be told.
    #[arg(long)]
    pub allow_unknown: bool,
    /// The protection that every listed extension must have once it is merged.
    #[arg(long, value_enum, default_value_t = Required::Any, value_name = "LEVEL")]
    pub require: Required,
    /// Compare with what `systemd-sysext status --json=short` said on the booted system.
    #[arg(long, value_name = "FILE")]
    pub status_json: Option<PathBuf>,
}

/// How well extensions must be protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Required {
    /// Signature and content are checked.
    Signed,
    /// The content is checked.
    Verity,
    /// Merged is enough.
    Any,
}

impl Required {
    /// The weakest verdict that is enough.
    pub(super) fn verdict(self) -> Option<Verdict> {
        match self {
            Required::Any => None,
            Required::Verity => Some(Verdict::MergesVerity),
            Required::Signed => Some(Verdict::MergesSigned),
        }
    }
}

/// `inspect`.
#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// The image.
    #[arg(value_name = "IMAGE")]
    pub image: PathBuf,
    /// What to extract, with everything below; default: all.
    #[arg(value_name = "PATH", requires = "extract")]
    pub paths: Vec<PathBuf>,
    /// List everything in it, one line each.
    #[arg(long, group = "form")]
    pub list: bool,
    /// Write an mtree specification of everything in it, with digests.
    #[arg(long, group = "form")]
    pub mtree: bool,
    /// Write the content of one file.
    #[arg(long, value_name = "PATH", group = "form")]
    pub cat: Option<PathBuf>,
    /// Write its files into this folder, which must not exist or be empty.
    #[arg(long, value_name = "DIR", group = "form")]
    pub extract: Option<PathBuf>,
    /// Write also into a folder that is not empty, and replace what is there.
    #[arg(long, requires = "extract")]
    pub force: bool,
}

/// `diff`.
#[derive(Debug, Args)]
pub(super) struct Diff {
    /// The first image.
    #[arg(value_name = "IMAGE")]
    pub one: PathBuf,
    /// The second image.
    #[arg(value_name = "OTHER")]
    pub other: PathBuf,
}

/// `verify`.
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// The image.
    #[arg(value_name = "IMAGE")]
    pub image: PathBuf,
    /// A certificate that is trusted (repeatable).
    #[arg(long, value_name = "FILE")]
    pub certificate: Vec<PathBuf>,
    /// Also sign with a throw-away key, which must be refused.
    #[arg(long, requires = "certificate")]
    pub negative_control: bool,
}

/// `sign`.
#[derive(Debug, Subcommand)]
pub(super) enum Sign {
    /// Tell what to sign for images with room for a signature.
    Request(Request),
    /// Put a signature that was made elsewhere into an image.
    Attach(Attach),
    /// Sign an image anew with another key; the root hash stays.
    Resign(Resign),
    /// Make a private key and a self-signed certificate for development.
    Keygen(Keygen),
}

/// `sign request`.
#[derive(Debug, Args)]
pub(super) struct Request {
    /// The images.
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<PathBuf>,
    /// The certificate whose key is to sign.
    #[arg(long, value_name = "FILE")]
    pub certificate: Option<PathBuf>,
    /// Where to write the request; default: standard output.
    #[arg(long, value_name = "FILE")]
    pub output_file: Option<PathBuf>,
}

/// `sign attach`.
#[derive(Debug, Args)]
pub(super) struct Attach {
    /// The image.
    #[arg(value_name = "IMAGE")]
    pub image: PathBuf,
    /// The signature: PKCS#7 in DER or PEM, or raw.
    #[arg(long, value_name = "FILE")]
    pub signature: PathBuf,
    /// The signer's certificate; needed for a raw signature, and held against any other.
    #[arg(long, value_name = "FILE")]
    pub certificate: Option<PathBuf>,
}

/// `sign resign`.
#[derive(Debug, Args)]
pub(super) struct Resign {
    /// The image.
    #[arg(value_name = "IMAGE")]
    pub image: PathBuf,
    /// The new private key: `PATH`, `file:PATH`, or `env:NAME`.
    #[arg(long, value_name = "KEY")]
    pub key: String,
    /// Where its passphrase is: `env:NAME`, or `file:PATH` (its first line). Without this you are
    /// asked, if it has one.
    #[arg(long, value_name = "WHERE")]
    pub passphrase: Option<String>,
    /// Its certificate.
    #[arg(long, value_name = "FILE")]
    pub certificate: PathBuf,
}

/// `sign keygen`.
#[derive(Debug, Args)]
pub(super) struct Keygen {
    /// Private key to write (mode 0600).
    #[arg(long, value_name = "FILE", default_value = "verity_key.pem")]
    pub key: PathBuf,
    /// Certificate to write.
    #[arg(long, value_name = "FILE", default_value = "verity_cert.crt")]
    pub certificate: PathBuf,
    /// Common name in the certificate.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "prism-sysext development key"
    )]
    pub common_name: String,
    /// Validity in days.
    #[arg(long, value_name = "DAYS", default_value_t = 3650, value_parser = clap::value_parser!(i64).range(1..=36500))]
    pub days: i64,
}

/// `remove`.
#[derive(Debug, Args)]
pub(super) struct Remove {
    /// Name of the extension.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Root file system to take it out of.
    #[arg(long, value_name = "DIR")]
    pub rootfs: PathBuf,
    /// Also remove files that were changed since.
    #[arg(long)]
    pub force: bool,
}

/// `list`.
#[derive(Debug, Args)]
pub(super) struct List {
    /// Root file system to look at.
    #[arg(long, value_name = "DIR", required_unless_present = "image_file")]
    pub rootfs: Option<PathBuf>,
    /// Raw disk image to look at.
    #[arg(long, value_name = "IMAGE", conflicts_with = "rootfs")]
    pub image_file: Option<PathBuf>,
}

/// `import-mkosi`.
#[derive(Debug, Args)]
pub(super) struct ImportMkosi {
    /// A mkosi.conf with all that lies beside it, or the folder that holds it; paths in the
    /// block are as this one, so they fit a config in the current folder.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// `schema`.
#[derive(Debug, Args)]
pub(super) struct Schema {
    /// Only the `sysext:` block.
    #[arg(long)]
    pub block: bool,
    /// Which schema: of the config, of a file that is written, or of what a verb prints with
    /// `--output json`.
    #[arg(long, value_name = "KIND", default_value = "config", value_parser = kinds(), conflicts_with_all = ["block", "write", "merge"])]
    pub kind: String,
    /// Write all schemas to this folder instead.
    #[arg(long, value_name = "DIR")]
    pub write: Option<PathBuf>,
    /// Put our section into this schema of Prism's config instead; all the rest of it stays as it is.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["block", "write"])]
    pub merge: Option<PathBuf>,
}

fn kinds() -> PossibleValuesParser {
    KINDS
        .iter()
        .map(|kind| kind.name)
        .collect::<Vec<_>>()
        .into()
}

/// `demo`.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Folder to make; it must not exist or be empty.
    #[arg(value_name = "DIR", default_value = "prism-sysext-demo")]
    pub directory: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn customize_passes_unknown_flags_on() {
        let cli = Cli::try_parse_from([
            "prism-sysext",
            "customize",
            "--config-file",
            "c.yaml",
            "--build-dir",
            "b",
            "--image-file=i.raw",
        ])
        .unwrap();
        let Command::Customize(customize) = cli.command else {
            panic!("customize")
        };
        assert_eq!(customize.config.config_file, PathBuf::from("c.yaml"));
        assert_eq!(customize.flags, ["--build-dir", "b", "--image-file=i.raw"]);
    }
}
