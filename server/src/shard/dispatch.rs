//! Taking messages from other shards in. Nothing here waits: what takes time is started as a task.

use millrace_runtime::{Env, TaskClass};

use super::mailbox::message::{CallId, Message, Reply, Request};
use super::placement::ShardIndex;
use super::{Shard, Stage, groups, metadata_log, read, serve};

/// Takes one message of `source` in.
pub fn receive<E: Env>(shard: &Shard<E>, source: ShardIndex, message: Message<E>) {
    match message {
        Message::Request { call, request } => begin(shard, Caller { source, call }, request),
        Message::Reply { call, reply } => shard.router().complete(call, reply),
        Message::Wake { watch } => shard.waits().wake(watch),
        Message::CancelWatch { watch } => shard.watches().cancel(source, watch),
        Message::CancelGroup { call, partition, group } => {
            shard.groups().cancel(shard, groups::token(source, call), partition, &group);
        }
        Message::ReturnLease { lease } => shard.leases().borrow_mut().take_back(lease),
        Message::Adopt { accepted } => crate::net::connection::adopt(shard, accepted),
        Message::ConnectionClosed => {
            if let Some(acceptor) = shard.acceptor() {
                acceptor.closed(source);
            }
        }
        Message::Open => shard.enter(Stage::Running),
        Message::Close => shard.enter(Stage::Closing),
    }
}

/// Who asked.
#[derive(Clone, Copy)]
struct Caller {
    source: ShardIndex,
    call: CallId,
}

/// Starts the work that was asked for.
fn begin<E: Env>(shard: &Shard<E>, caller: Caller, request: Request) {
    match request {
        Request::Append(append) => {
            // The place in line is taken here, in the order of arrival, and not when the task first runs.
            let turn = shard.append_line().enqueue();
            answer(shard, caller, "append for a peer", TaskClass::Network, |shard| async move {
                Reply::Append(serve::append(&shard, append, turn).await)
            });
        }
        Request::Read(request) => {
            answer(shard, caller, "read for a peer", TaskClass::Network, move |shard| async move {
                Reply::Read(read::read_for(&shard, caller.source, &request).await)
            });
        }
        Request::ListOffsets(list) => {
            answer(shard, caller, "offsets for a peer", TaskClass::Network, |shard| async move {
                Reply::ListOffsets(serve::list_offsets(&shard, &list).await)
            });
        }
        Request::DeleteRecords(delete) => {
            answer(shard, caller, "deletion for a peer", TaskClass::Network, |shard| async move {
                Reply::DeleteRecords(serve::delete_records(&shard, &delete).await)
            });
        }
        Request::LogBytes(request) => {
            answer(shard, caller, "log bytes for a peer", TaskClass::Network, |shard| async move {
                Reply::LogBytes(serve::log_bytes(&shard, &request).await)
            });
        }
        Request::EpochEnds(request) => {
            answer(shard, caller, "epoch ends for a peer", TaskClass::Network, |shard| async move {
                Reply::EpochEnds(serve::epoch_ends(&shard, &request).await)
            });
        }
        Request::ActiveProducers(request) => {
            answer(shard, caller, "active producers for a peer", TaskClass::Network, |shard| async move {
                Reply::ActiveProducers(serve::active_producers(&shard, &request).await)
            });
        }
        // Not in a task: the group answers when it can, which may be long after.
        Request::Group(group) => shard.groups().take_in(shard, groups::token(caller.source, caller.call), group),
        Request::ListGroups => {
            let reply = Reply::ListGroups(shard.groups().list());
            shard.mailbox().send(caller.source, Message::Reply { call: caller.call, reply });
        }
        Request::Propose(proposal) => {
            answer(shard, caller, "proposal of a peer", TaskClass::Metadata, |shard| async move {
                Reply::Propose(metadata_log::propose(&shard, proposal).await)
            });
        }
        Request::LoadImage { records, applied_index } => {
            answer(shard, caller, "first image", TaskClass::Metadata, move |shard| async move {
                shard.store_opened().await;
                let loaded = shard.load_image(&records, applied_index);
                loaded.expect("records of an image make an image");
                Reply::Apply
            });
        }
        Request::Apply(entry) => {
            // Not in a task: entries are applied in the order in which they arrive.
            shard.apply(&entry).expect("the first shard has applied the entry to an equal image");
            shard.mailbox().send(caller.source, Message::Reply { call: caller.call, reply: Reply::Apply });
        }
        Request::FreeRoom => {
            crate::net::sweep::close_slowest(shard);
            shard.mailbox().send(caller.source, Message::Reply { call: caller.call, reply: Reply::FreeRoom });
        }
        Request::Drain => answer(shard, caller, "drain", TaskClass::Network, |shard| async move {
            shard.drain().await;
            Reply::Drain
        }),
    }
}

/// Runs `work` as a task and sends its result back.
fn answer<E: Env, W>(
    shard: &Shard<E>,
    caller: Caller,
    name: &'static str,
    class: TaskClass,
    work: impl FnOnce(Shard<E>) -> W,
) where
    W: Future<Output = Reply> + 'static,
{
    let work = work(shard.clone());
    let mailbox = shard.mailbox().clone();
    shard.tasks().spawn(name, class, async move {
        let reply = work.await;
        mailbox.send(caller.source, Message::Reply { call: caller.call, reply });
    });
}
