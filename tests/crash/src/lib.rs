//! What Millrace acknowledged is there after a kill, after a power failure, and on a full disk.
//!
//! - [`kill`]: the release binary under a real client, killed over and over, and [`commits`], a group that reads beside it;
//! - [`power`]: a loaded store on a recorded disk; for its acknowledgements, the images that a power failure could have left
//!   are built and recovered;
//! - [`small_disk`]: a real file system that is soon full.
//!
//! The power's modules in reading order: [`trace`] is what was done; [`recording`] notes it; [`device`] says what may be
//! left of it; [`ledger`] what must be; [`load`] is the work; [`place`] puts an image somewhere to be recovered.
#![forbid(unsafe_code)]

pub mod trace;

pub mod recording;

pub mod device;
pub mod ledger;
pub mod load;
pub mod place;

pub mod power;

pub mod commits;
pub mod kill;
pub mod small_disk;
