package health

// counter is HAProxy's health counter: 0 to rise-1 is down, rise to rise+fall-1 is
// up. A success counts one up and, once up, to the top; a failure counts one
// down and, once down, to the bottom.
type counter struct{ rise, fall, health int }

// newCounter starts up, but one failure away from down.
func newCounter(s Spec) counter { return counter{rise: s.Rise, fall: s.Fall, health: s.Rise} }

func (c *counter) up() bool { return c.health >= c.rise }

// record counts one check and reports whether the state changed.
func (c *counter) record(ok bool) (changed bool) {
	was := c.up()
	switch {
	case ok:
		if c.health++; c.up() {
			c.health = c.rise + c.fall - 1
		}
	default:
		if c.health--; !c.up() {
			c.health = 0
		}
	}
	return c.up() != was
}

// inherit carries the state over to the limits of a changed spec.
func (c *counter) inherit(s Spec) {
	settled := c.health > c.rise
	was := c.up()
	*c = newCounter(s)
	switch {
	case !was:
		c.health = 0
	case settled:
		c.health = c.rise + c.fall - 1
	}
}
