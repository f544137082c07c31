"""Which shard is to be polled when? The timetable and the scheduler that puts its ticks on the log."""
