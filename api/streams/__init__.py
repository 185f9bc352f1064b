"""What watchers of a batch see: one poller asks, one log keeps, one hub a process hands out."""
