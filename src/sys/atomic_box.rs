//! A box that passes from one thread to another without a lock.

use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Has a box in it, or none.
///
/// Whoever takes the box out sees all that was done with it before it was put in.
pub(crate) struct AtomicBox<T> {
    /// Null, or what [`Box::into_raw`] has given.
    content: AtomicPtr<T>,
    owns: PhantomData<Box<T>>,
}

// SAFETY: what is in here is never looked at, only put in and taken out as a whole. Several threads at
// it do no more than send the box to each other.
unsafe impl<T: Send> Sync for AtomicBox<T> {}

impl<T> AtomicBox<T> {
    pub(crate) const fn new() -> Self {
        Self {
            content: AtomicPtr::new(ptr::null_mut()),
            owns: PhantomData,
        }
    }

    /// Puts a box in; what was in here before is dropped.
    pub(crate) fn put(&self, content: Box<T>) {
        drop(self.replace(Box::into_raw(content)));
    }

    /// Takes the box out.
    pub(crate) fn take(&self) -> Option<Box<T>> {
        self.replace(ptr::null_mut())
    }

    fn replace(&self, with: *mut T) -> Option<Box<T>> {
        let before = self.content.swap(with, Ordering::AcqRel);
        // SAFETY: what is not null comes from `Box::into_raw`, and the swap has given it to nobody else.
        (!before.is_null()).then(|| unsafe { Box::from_raw(before) })
    }
}

impl<T> Drop for AtomicBox<T> {
    fn drop(&mut self) {
        drop(self.take());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn each_box_is_had_once() {
        let numbers = AtomicBox::new();
        assert_eq!(numbers.take(), None);
        numbers.put(Box::new(1));
        assert_eq!(numbers.take(), Some(Box::new(1)));
        assert_eq!(numbers.take(), None);
    }

    #[test]
    fn what_is_left_or_replaced_is_dropped() {
        let (first, second) = (Arc::new(()), Arc::new(()));
        let boxes = AtomicBox::new();
        boxes.put(Box::new(Arc::clone(&first)));
        boxes.put(Box::new(Arc::clone(&second)));
        assert_eq!(Arc::strong_count(&first), 1);
        assert_eq!(Arc::strong_count(&second), 2);
        drop(boxes);
        assert_eq!(Arc::strong_count(&second), 1);
    }

    #[test]
    fn of_many_that_reach_for_it_one_has_it() {
        const THREADS: usize = 4;
        const BOXES: usize = 1000;
        let numbers = AtomicBox::new();
        let reach = |thread| {
            let numbers = &numbers;
            let put = move |number| {
                numbers.put(Box::new(number));
                numbers.take()
            };
            (thread * BOXES..(thread + 1) * BOXES).filter_map(put)
        };
        let mut had: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|thread| scope.spawn(move || reach(thread).collect::<Vec<_>>()))
                .collect();
            threads
                .into_iter()
                .flat_map(|thread| thread.join().expect("no panic"))
                .collect()
        });
        let count = had.len();
        had.sort();
        had.dedup();
        assert_eq!(had.len(), count);
        assert!(count > 0 && numbers.take().is_none());
    }
}
