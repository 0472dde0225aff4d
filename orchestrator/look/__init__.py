"""Everything that shows a run: the live view, reports, exports, notifications. Decides nothing."""
