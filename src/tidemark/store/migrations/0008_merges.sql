-- Fewer parts to read: ClickHouse merges parts that are together three times the largest of them, not only five times. A
-- series looks into each part. What it costs and how many parts are left: `tidemark bench merges`.
ALTER TABLE observations MODIFY SETTING merge_selector_base = 3;
