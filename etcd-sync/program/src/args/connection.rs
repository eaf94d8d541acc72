//! How to reach the two clusters: the same flags twice.

use std::path::PathBuf;

use clap::Args;

use super::values::some_text;

/// The connection flags of one side, whichever it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionArgs {
    /// URLs of the members.
    pub endpoints: Vec<String>,
    /// PEM file with the CA certificates.
    pub cacert: Option<PathBuf>,
    /// PEM file with the client certificate.
    pub cert: Option<PathBuf>,
    /// PEM file with the key of the client certificate.
    pub key: Option<PathBuf>,
    /// Name of the user.
    pub user: Option<String>,
    /// File with the password.
    pub password_file: Option<PathBuf>,
    /// Name that the server's certificate must have.
    pub server_name: Option<String>,
}

macro_rules! connection_args {
    ($name:ident, $side:literal, $heading:literal) => {
        #[doc = concat!("The flags for the connection to the ", $side, ".")]
        #[derive(Clone, Debug, Args)]
        #[command(next_help_heading = $heading)]
        pub struct $name {
            /// URLs of members.
            #[arg(
                id = concat!($side, "-endpoints"), long = concat!($side, "-endpoints"), global = true,
                value_name = "URL,...", value_delimiter = ',', value_parser = some_text,
                help = concat!("URLs of members of the ", $side, "'s etcd, comma separated or repeated: https://host:port, ",
                "http://host:port, or host:port (https when certificates are given); without a port 2379")
            )]
            pub endpoints: Vec<String>,

            /// PEM file with the CA certificates.
            #[arg(
                id = concat!($side, "-cacert"), long = concat!($side, "-cacert"), global = true, value_name = "FILE",
                help = concat!("PEM file with the CA certificates that signed the ", $side, "'s server certificates; read again ",
                "at every new connection")
            )]
            pub cacert: Option<PathBuf>,

            /// PEM file with the client certificate.
            #[arg(
                id = concat!($side, "-cert"), long = concat!($side, "-cert"), global = true, value_name = "FILE",
                help = concat!("PEM file with the client certificate for the ", $side, "; needs --", $side, "-key")
            )]
            pub cert: Option<PathBuf>,

            /// PEM file with its private key.
            #[arg(
                id = concat!($side, "-key"), long = concat!($side, "-key"), global = true, value_name = "FILE",
                help = concat!("PEM file with the private key of --", $side, "-cert")
            )]
            pub key: Option<PathBuf>,

            /// Name of the user.
            #[arg(
                id = concat!($side, "-user"), long = concat!($side, "-user"), global = true, value_name = "NAME",
                value_parser = some_text,
                help = concat!("User of the ", $side, "'s etcd; needs --", $side, "-password-file")
            )]
            pub user: Option<String>,

            /// File with the password.
            #[arg(
                id = concat!($side, "-password-file"), long = concat!($side, "-password-file"), global = true,
                value_name = "FILE",
                help = concat!("File with the password of --", $side, "-user; read again at every authentication")
            )]
            pub password_file: Option<PathBuf>,

            /// Name that the server's certificate must have.
            #[arg(
                id = concat!($side, "-server-name"), long = concat!($side, "-server-name"), global = true,
                value_name = "NAME", value_parser = some_text,
                help = concat!("Name that the ", $side, "'s server certificates must have, where its endpoints are reached ",
                "by another name or address (a virtual IP)")
            )]
            pub server_name: Option<String>,
        }

        impl From<$name> for ConnectionArgs {
            fn from(args: $name) -> Self {
                let $name { endpoints, cacert, cert, key, user, password_file, server_name } = args;
                ConnectionArgs { endpoints, cacert, cert, key, user, password_file, server_name }
            }
        }
    };
}

connection_args!(PrimaryArgs, "primary", "Primary etcd");
connection_args!(StandbyArgs, "standby", "Standby etcd");
