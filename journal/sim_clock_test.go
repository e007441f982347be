package journal

import (
	"container/heap"
	"errors"
	"iter"
	"time"
)

// task is something that goes on: a function to be called once, or a coroutine
// of a process that runs until its next sleep.
type task struct {
	w        *world
	at       time.Duration
	order    int
	index    int
	wakeable bool
	woken    bool
	call     func()
	next     func() (time.Duration, bool)
	stop     func()
	yield    func(time.Duration) bool
	p        *simProcess
	gen      int
}

type tasks []*task

func (q tasks) Len() int { return len(q) }
func (q tasks) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].order < q[j].order
}
func (q tasks) Swap(i, j int) { q[i], q[j] = q[j], q[i]; q[i].index, q[j].index = i, j }
func (q *tasks) Push(x any)   { t := x.(*task); t.index = len(*q); *q = append(*q, t) }
func (q *tasks) Pop() any {
	old := *q
	t := old[len(old)-1]
	*q = old[:len(old)-1]
	t.index = -1
	return t
}

func (w *world) push(t *task, d time.Duration) {
	w.count++
	t.at, t.order = w.now+d, w.count
	heap.Push(&w.queue, t)
}

func (w *world) after(d time.Duration, call func()) { w.push(&task{w: w, call: call}, d) }

var errKilled = errors.New("the process is dead")

// spawn starts a coroutine, which ends with its process (nil: with the schedule).
func (w *world) spawn(p *simProcess, f func()) *task {
	t := &task{w: w, p: p}
	if p != nil {
		t.gen = p.gen
	}
	t.next, t.stop = iter.Pull(func(yield func(time.Duration) bool) {
		defer func() {
			if r := recover(); r != nil && r != errKilled {
				panic(r)
			}
		}()
		t.yield = yield
		f()
	})
	w.push(t, 0)
	return t
}

func (w *world) sleep(d time.Duration) {
	if !w.current.yield(d) {
		panic(errKilled)
	}
}

func (w *world) sleepUntilWoken(d time.Duration) {
	t := w.current
	if t.woken {
		d = 0
	}
	t.wakeable = true
	w.sleep(d)
	t.wakeable, t.woken = false, false
}

// wake is node.ask.
func (t *task) wake() {
	t.woken = true
	if t.wakeable && t.index >= 0 {
		t.at = t.w.now
		heap.Fix(&t.w.queue, t.index)
	}
}

func (t *task) run() {
	if t.call != nil {
		t.call()
		return
	}
	if t.p != nil && t.gen != t.p.gen {
		t.stop()
		return
	}
	if t.p != nil && t.p.frozen > t.w.now {
		t.w.push(t, t.p.frozen-t.w.now+time.Duration(t.w.rng.IntN(2000))*time.Microsecond)
		return
	}
	t.w.current = t
	if d, ok := t.next(); ok {
		t.w.push(t, d)
	}
}

func (w *world) until(end time.Duration) {
	for w.failure == nil && len(w.queue) > 0 && w.queue[0].at < end {
		t := heap.Pop(&w.queue).(*task)
		w.now = t.at
		t.run()
	}
}
