//! A simulated process: a function with a stack of its own, which stops in mid-step and goes on later.
//!
//! All of them run on one thread, one at a time, so nothing here is shared between threads. Whoever runs one resumes it; what
//! runs in it, however deep, can [`suspend`].
//!
//! **If a process dies:** it is resumed with [`Resume::Die`], and unwinds.

use std::cell::Cell;
use std::ptr::NonNull;
use std::rc::Rc;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine as Stackful, CoroutineResult, Yielder};

/// How a process goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resume {
    /// With its next instruction.
    Run,
    /// Not at all.
    Die,
}

/// Why a process stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pause {
    /// Its beginning, which is not explored, is done.
    Ready,
    /// Another goes first.
    Preempted,
    /// It waits for something.
    Waiting,
}

type Suspender = Yielder<Resume, Pause>;

thread_local! {
    /// What the process that runs now suspends itself with.
    static RUNNING: Cell<Option<NonNull<Suspender>>> = const { Cell::new(None) };
}

/// A process and its stack.
pub(crate) struct Coroutine {
    stackful: Stackful<Resume, Pause, (), DefaultStack>,
    suspender: Rc<Cell<Option<NonNull<Suspender>>>>,
}

impl Coroutine {
    /// A process that runs `body` when it is first resumed.
    pub(crate) fn new(stack: DefaultStack, body: impl FnOnce(Resume) + 'static) -> Self {
        let suspender = Rc::new(Cell::new(None));
        let mine = Rc::clone(&suspender);
        let stackful = Stackful::with_stack(stack, move |yielder: &Suspender, first| {
            mine.set(Some(NonNull::from(yielder)));
            RUNNING.set(mine.get());
            body(first);
        });
        Self {
            stackful,
            suspender,
        }
    }

    /// Lets it go on until it stops again; `None` at its end.
    pub(crate) fn resume(&mut self, resume: Resume) -> Option<Pause> {
        RUNNING.set(self.suspender.get());
        match self.stackful.resume(resume) {
            CoroutineResult::Yield(pause) => Some(pause),
            CoroutineResult::Return(()) => None,
        }
    }

    /// Whether it was resumed at all, and has not ended.
    pub(crate) fn is_suspended(&self) -> bool {
        self.stackful.started() && !self.stackful.done()
    }

    /// Its stack, to be used again, once it has ended.
    pub(crate) fn into_stack(self) -> Option<DefaultStack> {
        self.stackful.done().then(|| self.stackful.into_stack())
    }
}

/// Stops the process that calls this, and returns how it goes on.
#[allow(
    unsafe_code,
    reason = "what a coroutine suspends itself with is known to the coroutine alone, and this is called far below it"
)]
pub(crate) fn suspend(pause: Pause) -> Resume {
    let running = RUNNING.get().expect("only processes suspend themselves");
    // SAFETY: set by `new` and `resume` to the suspender of the coroutine that runs now, on whose stack this call is; so that
    // coroutine's body has not returned, and the suspender lives as long as the body.
    let suspender = unsafe { running.as_ref() };
    suspender.suspend(pause)
}
