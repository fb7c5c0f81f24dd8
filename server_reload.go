package main

// This file owns how a server applies reloaded settings. Open connections keep the limits they began with.

// prepare implements reloader.
func (s *server) prepare(old, now settings) (commit func(), err error) {
	return func() {
		s.inForce.Store(&now.Limits)
		s.router.obey(now.Limits)
		s.budget.obey(now.Limits)
		s.foreman.set(ceilingOf(now.Limits))
		s.meter.book.obey(now.Limits.MaxMetered)
		s.router.events.keep(now.Topics)
		s.obey(&now.policy)
	}, nil
}
