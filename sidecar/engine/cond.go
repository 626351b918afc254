package engine

import "time"

// Cond is a queue of tasks of one loop that wait for a condition: first in, first out. The
// zero value is ready. Loop only, and without locks: tasks interleave only at parks.
type Cond struct {
	waiters []*condWaiter
	spare   []*condWaiter
}

type condWaiter struct {
	task     *Task
	signaled bool
}

// Wait parks t until a Signal meant for it, or its cancellation, which is returned. Like any
// park it is used in a loop around the condition. A signal that meets a cancelled task goes
// to the next one.
func (c *Cond) Wait(t *Task) error {
	return c.wait(t, func() error { return t.Park("cond") })
}

// WaitFor is Wait that returns ErrTimeout once d has passed.
func (c *Cond) WaitFor(t *Task, d time.Duration) error {
	until := t.loop.Nanos() + int64(max(d, 0))
	return c.wait(t, func() error {
		return t.ParkFor("cond", time.Duration(until-t.loop.Nanos()))
	})
}

func (c *Cond) wait(t *Task, park func() error) error {
	w := c.take()
	w.task = t
	c.waiters = append(c.waiters, w)
	var err error
	for err == nil && !w.signaled {
		err = park()
	}
	if w.signaled {
		if err != nil {
			c.Signal()
		}
	} else {
		c.remove(w)
	}
	w.task, w.signaled = nil, false
	c.spare = append(c.spare, w)
	return err
}

// Signal lets the task that has waited longest go on, from the run queue. It reports
// whether there was one.
func (c *Cond) Signal() bool {
	if len(c.waiters) == 0 {
		return false
	}
	w := c.waiters[0]
	c.remove(w)
	w.signaled = true
	w.task.Wake()
	return true
}

// Broadcast lets all of them go on.
func (c *Cond) Broadcast() {
	for c.Signal() {
	}
}

// Waiting is the number of tasks in the queue.
func (c *Cond) Waiting() int { return len(c.waiters) }

func (c *Cond) remove(w *condWaiter) {
	for i, x := range c.waiters {
		if x == w {
			copy(c.waiters[i:], c.waiters[i+1:])
			c.waiters[len(c.waiters)-1] = nil
			c.waiters = c.waiters[:len(c.waiters)-1]
			return
		}
	}
}

func (c *Cond) take() *condWaiter {
	n := len(c.spare)
	if n == 0 {
		return &condWaiter{}
	}
	w := c.spare[n-1]
	c.spare = c.spare[:n-1]
	return w
}
