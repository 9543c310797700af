//! A task that whoever waits for it may push on.

use std::fmt;
use std::future::Future;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::task::{Context, Poll};
use std::thread;

use futures::future::BoxFuture;
use futures::task::{ArcWake, AtomicWaker, waker_ref};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::lifecycle::own;
use crate::lifecycle::token::Token;

/// A future that belongs into a task, and may also be polled by whoever has an [`Assistant`].
///
/// What is waited for is then done on the thread that waits, where it would otherwise have to wake
/// another one and to be woken by it. The task learns of everything that is left to do.
pub(crate) struct Assisted<T>(Arc<Inner<T>>);

/// Pushes a task on, as long as it exists.
#[derive(Clone)]
pub(crate) struct Assistant<T> {
    inner: Weak<Inner<T>>,
    runtime: Handle,
}

struct Inner<T> {
    work: Mutex<Work<T>>,
    task: AtomicWaker,
}

/// A task that goes on until it is told to finish. What is left to do then is done by whoever waits
/// for it.
#[derive(Debug)]
pub(crate) struct Finishing {
    task: JoinHandle<()>,
    assistant: Assistant<()>,
    over: Token,
}

enum Work<T> {
    Running(BoxFuture<'static, T>),
    /// The task has yet to hear of it.
    Ended(thread::Result<T>),
    Over,
}

impl Finishing {
    /// Spawns what finishes at the token.
    pub(crate) fn spawn<F>(work: impl FnOnce(Token) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let over = Token::new();
        let task = Assisted::new(work(over.clone()));
        let assistant = task.assistant();
        Self {
            task: own::spawn(task),
            assistant,
            over,
        }
    }

    /// Tells it to finish, and waits until it has.
    ///
    /// # Cancel safety
    ///
    /// Where this is dropped, the task finishes by itself.
    pub(crate) async fn finish(self) {
        self.over.cancel();
        if !self.assistant.push() {
            // A panic in there is as good as its end.
            self.task.await.ok();
        }
    }
}

impl<T> Assisted<T> {
    pub(crate) fn new(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Arc::new(Inner {
            work: Mutex::new(Work::Running(Box::pin(future))),
            task: AtomicWaker::new(),
        }))
    }

    /// Somebody who may push it on; has to be called on the runtime of its task.
    pub(crate) fn assistant(&self) -> Assistant<T> {
        Assistant {
            inner: Arc::downgrade(&self.0),
            runtime: Handle::current(),
        }
    }
}

impl<T: Send + 'static> Future for Assisted<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        self.0.task.register(cx.waker());
        let mut work = self.0.lock();
        self.0.push(&mut work);
        match mem::replace(&mut *work, Work::Over) {
            Work::Ended(Ok(output)) => Poll::Ready(output),
            Work::Ended(Err(panic)) => {
                drop(work);
                resume_unwind(panic)
            }
            left => {
                *work = left;
                Poll::Pending
            }
        }
    }
}

/// The future goes with its task, though it may hold its own waker.
impl<T> Drop for Assisted<T> {
    fn drop(&mut self) {
        let left = mem::replace(&mut *self.0.lock(), Work::Over);
        drop(left);
    }
}

impl<T: Send + 'static> Assistant<T> {
    /// Does what the task has to do at the moment, unless it does so itself, or belongs to another
    /// runtime than the caller; tells whether nothing is left of it but that it hears so.
    pub(crate) fn push(&self) -> bool {
        let Some(inner) = self.inner.upgrade() else {
            return true;
        };
        if !Handle::try_current().is_ok_and(|here| here.id() == self.runtime.id()) {
            return false;
        }
        let ended = {
            let mut work = match inner.work.try_lock() {
                Ok(work) => work,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return false,
            };
            inner.push(&mut work);
            !matches!(*work, Work::Running(_))
        };
        if ended {
            inner.task.wake();
        }
        ended
    }
}

impl<T: Send + 'static> Inner<T> {
    fn push(self: &Arc<Self>, work: &mut Work<T>) {
        let Work::Running(future) = work else {
            return;
        };
        let waker = waker_ref(self);
        let mut cx = Context::from_waker(&waker);
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut cx))) {
            Ok(Poll::Pending) => {}
            Ok(Poll::Ready(output)) => *work = Work::Ended(Ok(output)),
            Err(panic) => *work = Work::Ended(Err(panic)),
        }
    }
}

impl<T> Inner<T> {
    fn lock(&self) -> MutexGuard<'_, Work<T>> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever pushes, it is the task that is woken.
impl<T: Send + 'static> ArcWake for Inner<T> {
    fn wake_by_ref(this: &Arc<Self>) {
        this.task.wake();
    }
}

impl<T> fmt::Debug for Assistant<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Assistant").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    fn counting(
        numbers: mpsc::UnboundedReceiver<u32>,
    ) -> impl Future<Output = u32> + Send + 'static {
        let mut numbers = numbers;
        async move {
            let mut sum = 0;
            while let Some(number) = numbers.recv().await {
                assert_ne!(number, 13, "an unlucky number");
                sum += number;
            }
            sum
        }
    }

    #[tokio::test]
    async fn it_is_pushed_before_its_task_has_run_and_ends_there() {
        let (sender, numbers) = mpsc::unbounded_channel();
        let assisted = Assisted::new(counting(numbers));
        let assistant = assisted.assistant();
        let task = tokio::spawn(assisted);
        for number in [1, 2] {
            sender.send(number).expect("it is there");
            assistant.push();
        }
        assert!(!assistant.push() && !task.is_finished());
        drop(sender);
        assert!(assistant.push() && !task.is_finished());
        assert_eq!(task.await.expect("no panic"), 3);
        assert!(assistant.push());
    }

    #[tokio::test]
    async fn what_is_left_is_done_before_the_finish_is_over() {
        let (sender, mut done) = mpsc::unbounded_channel();
        let work = Finishing::spawn(|over| async move {
            over.cancelled().await;
            sender.send(1).expect("the test listens");
        });
        tokio::task::yield_now().await;
        assert!(done.try_recv().is_err());
        work.finish().await;
        assert_eq!(done.try_recv(), Ok(1));
    }

    #[tokio::test]
    async fn what_comes_after_a_push_wakes_the_task() {
        let (sender, numbers) = mpsc::unbounded_channel();
        let assisted = Assisted::new(counting(numbers));
        let assistant = assisted.assistant();
        let task = tokio::spawn(assisted);
        tokio::task::yield_now().await;
        sender.send(1).expect("it is there");
        assistant.push();
        sender.send(2).expect("it is there");
        drop(sender);
        assert_eq!(task.await.expect("no panic"), 3);
    }

    #[tokio::test]
    async fn a_panic_is_the_task_s() {
        let (sender, numbers) = mpsc::unbounded_channel();
        let assisted = Assisted::new(counting(numbers));
        let assistant = assisted.assistant();
        let task = tokio::spawn(assisted);
        sender.send(13).expect("it is there");
        assistant.push();
        let error = task.await.expect_err("a panic");
        assert!(error.is_panic());
    }

    #[tokio::test]
    async fn nothing_is_left_of_one_whose_task_is_dropped() {
        let (sender, numbers) = mpsc::unbounded_channel();
        let assisted = Assisted::new(counting(numbers));
        let assistant = assisted.assistant();
        assistant.push();
        drop(assisted);
        assert!(sender.is_closed());
        assistant.push();
    }

    #[test]
    fn nobody_pushes_it_on_from_elsewhere() {
        let (sender, numbers) = mpsc::unbounded_channel();
        let runtime = || tokio::runtime::Builder::new_current_thread().build();
        let (here, elsewhere) = (runtime().expect("one"), runtime().expect("another"));
        let assistant = here.block_on(async {
            let assisted = Assisted::new(counting(numbers));
            let assistant = assisted.assistant();
            tokio::spawn(assisted);
            assistant
        });
        drop(sender);
        assert!(!elsewhere.block_on(async { assistant.push() }));
        assert!(!assistant.push());
        let unpolled = |work: &Work<u32>| matches!(work, Work::Running(_));
        let inner = assistant.inner.upgrade().expect("a task");
        assert!(unpolled(&inner.lock()));
    }
}
