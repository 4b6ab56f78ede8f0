//! Folders on a disk, on an S3 server that fails as told, and on a real one.

#[cfg(test)]
mod faults;
#[cfg(test)]
mod folder;
#[cfg(test)]
mod full_disk;
#[cfg(test)]
#[allow(dead_code)] // shared with the tests of the state's files
mod proxy;
#[cfg(test)]
mod real_s3;
#[cfg(test)]
mod server;
#[cfg(test)]
mod staged;
