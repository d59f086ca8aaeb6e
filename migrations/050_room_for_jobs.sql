-- With 60 a quarter of the claims of instance logs found no room in the page, and wrote eight indexes again. With 45 all are HOT updates.

ALTER TABLE instance_logs SET (fillfactor = 45);
