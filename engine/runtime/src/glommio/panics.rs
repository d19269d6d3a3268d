//! A panic on a shard ends the process.
//!
//! A shard that is gone leaves its partitions without an owner and its peers waiting; and a process whose invariants
//! failed must not write on. Threads that are not shards keep the ordinary behaviour: closures on blocking threads are
//! caught where they are run.

use std::backtrace::Backtrace;
use std::cell::Cell;
use std::io::Write;
use std::panic::PanicHookInfo;
use std::sync::Once;

thread_local! {
    static ABORTS_ON_PANIC: Cell<bool> = const { Cell::new(false) };
}

/// From now on a panic on the calling thread prints itself and aborts the process.
pub(super) fn abort_on_panic_of_this_thread() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if ABORTS_ON_PANIC.get() {
                print_and_abort(panic);
            }
            previous(panic);
        }));
    });
    ABORTS_ON_PANIC.set(true);
}

fn print_and_abort(panic: &PanicHookInfo<'_>) -> ! {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("unnamed");
    let backtrace = Backtrace::capture();
    // Written to the descriptor rather than with `eprintln!`, which a test harness captures and an abort then loses.
    // Nothing is left to do when even that fails.
    let _ = writeln!(std::io::stderr(), "thread '{name}' {panic}\n{backtrace}\nA shard panicked; the process aborts.");
    std::process::abort();
}
