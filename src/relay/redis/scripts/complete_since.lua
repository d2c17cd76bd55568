-- Since when the ledger remembers everything it was told.
--
-- KEYS[1]  the tenant's mark
-- ARGV[1]  now, in seconds
-- ARGV[2]  how long to keep the mark, in ms
return complete_since(KEYS[1], ARGV[1], ARGV[2])
