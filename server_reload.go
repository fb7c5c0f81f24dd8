package main

// This file owns how a server goes on with other settings: connections keep the limits that they began with.

// prepare implements reloader.
func (s *server) prepare(old, now settings) (commit func(), err error) {
	return func() {
		s.inForce.Store(&now.Limits)
		if now.allow != old.allow {
			s.letIn(now.allow)
		}
	}, nil
}
