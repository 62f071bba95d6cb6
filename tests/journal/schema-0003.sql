BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0003');
CREATE TABLE cached_studies (
	study_instance_uid VARCHAR(64) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	size BIGINT NOT NULL, 
	instances INTEGER NOT NULL, 
	last_used FLOAT NOT NULL, 
	urls_valid_until FLOAT NOT NULL, 
	PRIMARY KEY (study_instance_uid)
);
INSERT INTO "cached_studies" VALUES('1.2.3','ready',10,2,1.79570185245538711544e+09,0.0);
CREATE TABLE job_history (
	id INTEGER NOT NULL, 
	job_id INTEGER NOT NULL, 
	at FLOAT NOT NULL, 
	said TEXT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE
);
INSERT INTO "job_history" VALUES(1,1,1.79570185241313552857e+09,'made by the old version');
INSERT INTO "job_history" VALUES(2,2,1.79570185241426920896e+09,'made by the old version');
INSERT INTO "job_history" VALUES(3,2,1.7957018524168181419e+09,'attempt 1 failed: the PACS is away');
INSERT INTO "job_history" VALUES(4,3,1.79570185241712164878e+09,'made by the old version');
INSERT INTO "job_history" VALUES(5,4,1.79570185241801667211e+09,'made by the old version');
INSERT INTO "job_history" VALUES(6,4,1.7957018524184257984e+09,'quarantined: it cannot be done');
INSERT INTO "job_history" VALUES(7,5,1.79570185241869902615e+09,'made by the old version');
INSERT INTO "job_history" VALUES(8,5,1.79570185241915702815e+09,'done: done');
INSERT INTO "job_history" VALUES(9,6,1.79570185241943335529e+09,'made by the old version');
INSERT INTO "job_history" VALUES(10,6,1.79570185241965961453e+09,'discarded: not wanted');
INSERT INTO "job_history" VALUES(11,7,1.79570185241991662973e+09,'made by the old version');
INSERT INTO "job_history" VALUES(12,8,1.79570185242023110387e+09,'made by the old version');
INSERT INTO "job_history" VALUES(13,8,1.79570185242129945748e+09,'attempt 1 failed: the PACS is away');
INSERT INTO "job_history" VALUES(14,9,1.79570185242154860497e+09,'made by the old version');
INSERT INTO "job_history" VALUES(15,10,1.79570185242225670817e+09,'made by the old version');
INSERT INTO "job_history" VALUES(16,10,1.79570185242247343064e+09,'quarantined: it cannot be done');
INSERT INTO "job_history" VALUES(17,11,1795701852.42271,'made by the old version');
INSERT INTO "job_history" VALUES(18,11,1.79570185242293477059e+09,'done: done');
INSERT INTO "job_history" VALUES(19,12,1.79570185242322039606e+09,'made by the old version');
INSERT INTO "job_history" VALUES(20,12,1.79570185242343497277e+09,'discarded: not wanted');
INSERT INTO "job_history" VALUES(21,13,1.79570185242368245128e+09,'made by the old version');
INSERT INTO "job_history" VALUES(22,14,1.79570185242399287224e+09,'made by the old version');
INSERT INTO "job_history" VALUES(23,14,1.79570185242506551743e+09,'attempt 1 failed: the PACS is away');
INSERT INTO "job_history" VALUES(24,15,1.79570185242531132701e+09,'made by the old version');
INSERT INTO "job_history" VALUES(25,16,1.79570185242605495452e+09,'made by the old version');
INSERT INTO "job_history" VALUES(26,16,1795701852.42627,'quarantined: it cannot be done');
INSERT INTO "job_history" VALUES(27,17,1.79570185242650461193e+09,'made by the old version');
INSERT INTO "job_history" VALUES(28,17,1.79570185242673039435e+09,'done: done');
INSERT INTO "job_history" VALUES(29,18,1.79570185242696452139e+09,'made by the old version');
INSERT INTO "job_history" VALUES(30,18,1.79570185242721629148e+09,'discarded: not wanted');
INSERT INTO "job_history" VALUES(31,19,1.79570185242750811577e+09,'made by the old version');
INSERT INTO "job_history" VALUES(32,20,1.79570185242781114581e+09,'made by the old version');
INSERT INTO "job_history" VALUES(33,20,1.79570185242880606653e+09,'attempt 1 failed: the PACS is away');
INSERT INTO "job_history" VALUES(34,21,1.79570185242904806132e+09,'made by the old version');
INSERT INTO "job_history" VALUES(35,22,1.79570185242980146413e+09,'made by the old version');
INSERT INTO "job_history" VALUES(36,22,1.79570185243001198766e+09,'quarantined: it cannot be done');
INSERT INTO "job_history" VALUES(37,23,1.79570185243024659157e+09,'made by the old version');
INSERT INTO "job_history" VALUES(38,23,1.79570185243046498294e+09,'done: done');
INSERT INTO "job_history" VALUES(39,24,1.79570185243069601059e+09,'made by the old version');
INSERT INTO "job_history" VALUES(40,24,1.79570185243090581889e+09,'discarded: not wanted');
INSERT INTO "job_history" VALUES(41,25,1.79570185243117952343e+09,'made by the old version');
INSERT INTO "job_history" VALUES(42,26,1.79570185243148732184e+09,'made by the old version');
INSERT INTO "job_history" VALUES(43,26,1.79570185243247771268e+09,'attempt 1 failed: the PACS is away');
INSERT INTO "job_history" VALUES(44,27,1.79570185243280935286e+09,'made by the old version');
INSERT INTO "job_history" VALUES(45,28,1.79570185243386697768e+09,'made by the old version');
INSERT INTO "job_history" VALUES(46,28,1.79570185243409132956e+09,'quarantined: it cannot be done');
INSERT INTO "job_history" VALUES(47,29,1.79570185243433523177e+09,'made by the old version');
INSERT INTO "job_history" VALUES(48,29,1.79570185243459606166e+09,'done: done');
INSERT INTO "job_history" VALUES(49,30,1.79570185243483471876e+09,'made by the old version');
INSERT INTO "job_history" VALUES(50,30,1.79570185243507385256e+09,'discarded: not wanted');
INSERT INTO "job_history" VALUES(51,31,1.79570185243531441681e+09,'made by the old version');
INSERT INTO "job_history" VALUES(52,32,1.79570185243561840056e+09,'made by the old version');
INSERT INTO "job_history" VALUES(53,32,1.7957018524366292954e+09,'attempt 1 failed: the PACS is away');
INSERT INTO "job_history" VALUES(54,33,1.79570185243687629704e+09,'made by the old version');
INSERT INTO "job_history" VALUES(55,34,1.79570185243756461146e+09,'made by the old version');
INSERT INTO "job_history" VALUES(56,34,1.79570185243777799607e+09,'quarantined: it cannot be done');
INSERT INTO "job_history" VALUES(57,35,1.79570185243801546098e+09,'made by the old version');
INSERT INTO "job_history" VALUES(58,35,1795701852.43824,'done: done');
INSERT INTO "job_history" VALUES(59,36,1.79570185243847370154e+09,'made by the old version');
INSERT INTO "job_history" VALUES(60,36,1.7957018524386847019e+09,'discarded: not wanted');
INSERT INTO "job_history" VALUES(61,37,1.79570185243892431262e+09,'made by the old version');
INSERT INTO "job_history" VALUES(62,38,1.79570185243926334385e+09,'made by the old version');
INSERT INTO "job_history" VALUES(63,38,1.79570185244025373456e+09,'attempt 1 failed: the PACS is away');
INSERT INTO "job_history" VALUES(64,39,1.79570185244049739838e+09,'made by the old version');
INSERT INTO "job_history" VALUES(65,40,1.79570185244118666646e+09,'made by the old version');
INSERT INTO "job_history" VALUES(66,40,1.79570185244139719012e+09,'quarantined: it cannot be done');
INSERT INTO "job_history" VALUES(67,41,1.79570185244162964814e+09,'made by the old version');
INSERT INTO "job_history" VALUES(68,41,1.79570185244184660914e+09,'done: done');
INSERT INTO "job_history" VALUES(69,42,1.7957018524420778751e+09,'made by the old version');
INSERT INTO "job_history" VALUES(70,42,1.79570185244228506084e+09,'discarded: not wanted');
INSERT INTO "job_history" VALUES(71,43,1.79570185244251966476e+09,'made by the old version');
INSERT INTO "job_history" VALUES(72,44,1.79570185244281554223e+09,'made by the old version');
INSERT INTO "job_history" VALUES(73,44,1.79570185244381904602e+09,'attempt 1 failed: the PACS is away');
INSERT INTO "job_history" VALUES(74,45,1.79570185244406175617e+09,'made by the old version');
INSERT INTO "job_history" VALUES(75,46,1.79570185244482612607e+09,'made by the old version');
INSERT INTO "job_history" VALUES(76,46,1.79570185244503879549e+09,'quarantined: it cannot be done');
INSERT INTO "job_history" VALUES(77,47,1.79570185244527482986e+09,'made by the old version');
INSERT INTO "job_history" VALUES(78,47,1.79570185244549846651e+09,'done: done');
INSERT INTO "job_history" VALUES(79,48,1.79570185244573163989e+09,'made by the old version');
INSERT INTO "job_history" VALUES(80,48,1.79570185244594383239e+09,'discarded: not wanted');
INSERT INTO "job_history" VALUES(81,49,1.7957018524461760521e+09,'made by the old version');
INSERT INTO "job_history" VALUES(82,50,1.79570185244647288324e+09,'made by the old version');
INSERT INTO "job_history" VALUES(83,50,1.79570185244749307628e+09,'attempt 1 failed: the PACS is away');
INSERT INTO "job_history" VALUES(84,51,1.7957018524477276802e+09,'made by the old version');
INSERT INTO "job_history" VALUES(85,52,1795701852.4484,'made by the old version');
INSERT INTO "job_history" VALUES(86,52,1.7957018524486095905e+09,'quarantined: it cannot be done');
INSERT INTO "job_history" VALUES(87,53,1.79570185244883823399e+09,'made by the old version');
INSERT INTO "job_history" VALUES(88,53,1.7957018524490554333e+09,'done: done');
INSERT INTO "job_history" VALUES(89,54,1.79570185244928097727e+09,'made by the old version');
INSERT INTO "job_history" VALUES(90,54,1.79570185244948506359e+09,'discarded: not wanted');
INSERT INTO "job_history" VALUES(91,55,1.79570185244972777361e+09,'added');
INSERT INTO "job_history" VALUES(92,55,1.79570185245052814479e+09,'asked for storage commitment');
INSERT INTO "job_history" VALUES(93,56,1.79570185245080137254e+09,'added');
INSERT INTO "job_history" VALUES(94,56,1.7957018524511516094e+09,'asked for storage commitment');
INSERT INTO "job_history" VALUES(95,57,1.79570185245139694214e+09,'added');
INSERT INTO "job_history" VALUES(96,57,1.79570185245169115068e+09,'asked for storage commitment');
INSERT INTO "job_history" VALUES(97,58,1795701852.45192,'added');
INSERT INTO "job_history" VALUES(98,58,1.79570185245219564439e+09,'done: stored and committed');
CREATE TABLE jobs (
	id INTEGER NOT NULL, 
	kind VARCHAR(32) NOT NULL, 
	subject VARCHAR(256) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	payload TEXT NOT NULL, 
	attempts INTEGER NOT NULL, 
	created FLOAT NOT NULL, 
	since FLOAT NOT NULL, 
	next_at FLOAT NOT NULL, 
	ended FLOAT, 
	leased_by VARCHAR(64), 
	leased_until FLOAT, 
	last_error TEXT NOT NULL, 
	token VARCHAR(128), 
	PRIMARY KEY (id), 
	CONSTRAINT jobs_by_subject UNIQUE (kind, subject)
);
INSERT INTO "jobs" VALUES(1,'capture.check','slot1 etag','running','{"slot": "slot1", "key": "inbox/slot1", "size": 10}',1,1.7957018524125230312e+09,1.7957018524125230312e+09,1.79570185327540636065e+09,NULL,'gateway',1.79570191241444778438e+09,'',NULL);
INSERT INTO "jobs" VALUES(2,'capture.check','slot2 etag','waiting','{"slot": "slot2", "key": "inbox/slot2", "size": 10}',1,1.79570185241409921647e+09,1.79570185241409921647e+09,1.79570185343721508983e+09,NULL,NULL,NULL,'the PACS is away',NULL);
INSERT INTO "jobs" VALUES(3,'capture.check','slot3 etag','running','{"slot": "slot3", "key": "inbox/slot3", "size": 10}',1,1.79570185241698861123e+09,1.79570185241698861123e+09,1.79570185319908499715e+09,NULL,'gateway',1.79570191241725611681e+09,'',NULL);
INSERT INTO "jobs" VALUES(4,'capture.check','slot4 etag','quarantined','{"slot": "slot4", "key": "inbox/slot4", "size": 10}',0,1.79570185241788935663e+09,1.79570185241788935663e+09,1.79570185241788935663e+09,1.79570185241814446455e+09,NULL,NULL,'it cannot be done',NULL);
INSERT INTO "jobs" VALUES(5,'capture.check','slot5 etag','done','{"slot": "slot5", "key": null, "size": 10}',0,1.79570185241857481006e+09,1.79570185241857481006e+09,1.79570185241857481006e+09,1.79570185241883158687e+09,NULL,NULL,'',NULL);
INSERT INTO "jobs" VALUES(6,'capture.check','slot6 etag','discarded','{"slot": "slot6", "key": "inbox/slot6", "size": 10}',0,1.79570185241931343082e+09,1.79570185241931343082e+09,1.79570185241931343082e+09,1.79570185241956233978e+09,NULL,NULL,'',NULL);
INSERT INTO "jobs" VALUES(7,'capture.store','1.2.3.7 main','running','{"slot": "slot7", "target": "main", "key": "outbox/1.2.3.7/abc", "size": 10, "sha256": "abababababababababababababababababababababababababababababababab", "study": "1.2.3", "sop_class": "1.2.840.10008.5.1.4.1.1.7", "sop_instance": "1.2.3.7", "transfer_syntax": "1.2.840.10008.1.2.1"}',1,1.7957018524197957516e+09,1.7957018524197957516e+09,1.79570185365017700191e+09,NULL,'gateway',1.79570191242035055159e+09,'',NULL);
INSERT INTO "jobs" VALUES(8,'capture.store','1.2.3.8 main','waiting','{"slot": "slot8", "target": "main", "key": "outbox/1.2.3.8/abc", "size": 10, "sha256": "abababababababababababababababababababababababababababababababab", "study": "1.2.3", "sop_class": "1.2.840.10008.5.1.4.1.1.7", "sop_instance": "1.2.3.8", "transfer_syntax": "1.2.840.10008.1.2.1"}',1,1.79570185242011618612e+09,1.79570185242011618612e+09,1.79570185319009852412e+09,NULL,NULL,NULL,'the PACS is away',NULL);
INSERT INTO "jobs" VALUES(9,'capture.store','1.2.3.9 main','running','{"slot": "slot9", "target": "main", "key": "outbox/1.2.3.9/abc", "size": 10, "sha256": "abababababababababababababababababababababababababababababababab", "study": "1.2.3", "sop_class": "1.2.840.10008.5.1.4.1.1.7", "sop_instance": "1.2.3.9", "transfer_syntax": "1.2.840.10008.1.2.1"}',1,1.79570185242143130297e+09,1.79570185242143130297e+09,1.79570185330510330196e+09,NULL,'gateway',1795701912.42167,'',NULL);
INSERT INTO "jobs" VALUES(10,'capture.store','1.2.3.10 main','quarantined','{"slot": "slot10", "target": "main", "key": "outbox/1.2.3.10/abc", "size": 10, "sha256": "abababababababababababababababababababababababababababababababab", "study": "1.2.3", "sop_class": "1.2.840.10008.5.1.4.1.1.7", "sop_instance": "1.2.3.10", "transfer_syntax": "1.2.840.10008.1.2.1"}',0,1795701852.42214,1795701852.42214,1795701852.42214,1.79570185242237925532e+09,NULL,NULL,'it cannot be done',NULL);
INSERT INTO "jobs" VALUES(11,'capture.store','1.2.3.11 main','done','{"slot": "slot11", "target": "main", "key": null, "size": 10, "sha256": "abababababababababababababababababababababababababababababababab", "study": "1.2.3", "sop_class": "1.2.840.10008.5.1.4.1.1.7", "sop_instance": "1.2.3.11", "transfer_syntax": "1.2.840.10008.1.2.1"}',0,1.79570185242259860039e+09,1.79570185242259860039e+09,1.79570185242259860039e+09,1.79570185242282986644e+09,NULL,NULL,'',NULL);
INSERT INTO "jobs" VALUES(12,'capture.store','1.2.3.12 main','discarded','{"slot": "slot12", "target": "main", "key": "outbox/1.2.3.12/abc", "size": 10, "sha256": "abababababababababababababababababababababababababababababababab", "study": "1.2.3", "sop_class": "1.2.840.10008.5.1.4.1.1.7", "sop_instance": "1.2.3.12", "transfer_syntax": "1.2.840.10008.1.2.1"}',0,1.79570185242310690881e+09,1.79570185242310690881e+09,1.79570185242310690881e+09,1.79570185242334270482e+09,NULL,NULL,'',NULL);
INSERT INTO "jobs" VALUES(13,'report.store','1.2.3.13 main','running','{"report": "rep_13", "study_id": "stu_1", "received": 1700000000.0, "target": "main", "key": "outbox/1.2.3.13/abc", "size": 10, "sha256": "abababababababababababababababababababababababababababababababab", "study": "1.2.3", "sop_class": "1.2.840.10008.5.1.4.1.1.7", "sop_instance": "1.2.3.13", "transfer_syntax": "1.2.840.10008.1.2.1"}',1,1.79570185242356252668e+09,1.79570185242356252668e+09,1.79570185358143758771e+09,NULL,'gateway',1.79570191242411303519e+09,'',NULL);
INSERT INTO "jobs" VALUES(14,'report.store','1.2.3.14 main','waiting','{"report": "rep_14", "study_id": "stu_1", "received": 1700000000.0, "target": "main", "key": "outbox/1.2.3.14/abc", "size": 10, "sha256": "abababababababababababababababababababababababababababababababab", "study": "1.2.3", "sop_class": "1.2.840.10008.5.1.4.1.1.7", "sop_instance": "1.2.3.14", "transfer_syntax": "1.2.840.10008.1.2.1"}',1,1.79570185242387461667e+09,1.79570185242387461667e+09,1.79570185364272260665e+09,NULL,NULL,NULL,'the PACS is away',NULL);
INSERT INTO "jobs" VALUES(15,'report.store','1.2.3.15 main','running','{"report": "rep_15", "study_id": "stu_1", "received": 1700000000.0, "target": "main", "key": "outbox/1.2.3.15/abc", "size": 10, "sha256": "abababababababababababababababababababababababababababababababab", "study": "1.2.3", "sop_class": "1.2.840.10008.5.1.4.1.1.7", "sop_instance": "1.2.3.15", "transfer_syntax": "1.2.840.10008.1.2.1"}',1,1.79570185242519354817e+09,1.79570185242519354817e+09,1.7957018532092409134e+09,NULL,'gateway',1.79570191242543315888e+09,'',NULL);
INSERT INTO "jobs" VALUES(16,'report.store','1.2.3.16 main','quarantined','{"report": "rep_16", "study_id": "stu_1", "received": 1700000000.0, "target": "main", "key": "outbox/1.2.3.16/abc", "size": 10, "sha256": "abababababababababababababababababababababababababababababababab", "study": "1.2.3", "sop_class": "1.2.840.10008.5.1.4.1.1.7", "sop_instance": "1.2.3.16", "transfer_syntax": "1.2.840.10008.1.2.1"}',0,1.7957018524259364605e+09,1.7957018524259364605e+09,1.7957018524259364605e+09,1.79570185242617702484e+09,NULL,NULL,'it cannot be done',NULL);
INSERT INTO "jobs" VALUES(17,'report.store','1.2.3.17 main','done','{"report": "rep_17", "study_id": "stu_1", "received": 1700000000.0, "target": "main", "key": null, "size": 10, "sha256": "abababababababababababababababababababababababababababababababab", "study": "1.2.3", "sop_class": "1.2.840.10008.5.1.4.1.1.7", "sop_instance": "1.2.3.17", "transfer_syntax": "1.2.840.10008.1.2.1"}',0,1.79570185242639279365e+09,1.79570185242639279365e+09,1.79570185242639279365e+09,1.79570185242662501336e+09,NULL,NULL,'',NULL);
INSERT INTO "jobs" VALUES(18,'report.store','1.2.3.18 main','discarded','{"report": "rep_18", "study_id": "stu_1", "received": 1700000000.0, "target": "main", "key": "outbox/1.2.3.18/abc", "size": 10, "sha256": "abababababababababababababababababababababababababababababababab", "study": "1.2.3", "sop_class": "1.2.840.10008.5.1.4.1.1.7", "sop_instance": "1.2.3.18", "transfer_syntax": "1.2.840.10008.1.2.1"}',0,1.79570185242685413356e+09,1.79570185242685413356e+09,1.79570185242685413356e+09,1.7957018524271214008e+09,NULL,NULL,'',NULL);
INSERT INTO "jobs" VALUES(19,'report.fetch','rep_19 fa9902f14a05e8697000ed59c4321a68','running','{"report": "rep_19", "study_id": "stu_1", "study": "1.2.3", "critical": true, "text": "Befund", "url": "https://avara.example/x", "received": 1700000000.0}',1,1.79570185242739081389e+09,1.79570185242739081389e+09,1.79570185346887969965e+09,NULL,'gateway',1.79570191242792820927e+09,'',NULL);
INSERT INTO "jobs" VALUES(20,'report.fetch','rep_20 b3e16eb94ec81dca9c1ab36015b7033f','waiting','{"report": "rep_20", "study_id": "stu_1", "study": "1.2.3", "critical": true, "text": "Befund", "url": "https://avara.example/x", "received": 1700000000.0}',1,1.79570185242770242691e+09,1.79570185242770242691e+09,1.79570185319415736202e+09,NULL,NULL,NULL,'the PACS is away',NULL);
INSERT INTO "jobs" VALUES(21,'report.fetch','rep_21 98b2c5f44b6df06bd8dd96929492a4b9','running','{"report": "rep_21", "study_id": "stu_1", "study": "1.2.3", "critical": true, "text": "Befund", "url": "https://avara.example/x", "received": 1700000000.0}',1,1.7957018524289348125e+09,1.7957018524289348125e+09,1.79570185366622614864e+09,NULL,'gateway',1.79570191242916727064e+09,'',NULL);
INSERT INTO "jobs" VALUES(22,'report.fetch','rep_22 057c70b4fa38e1829a3fc50298ba507d','quarantined','{"report": "rep_22", "study_id": "stu_1", "study": "1.2.3", "critical": true, "text": "Befund", "url": "https://avara.example/x", "received": 1700000000.0}',0,1.7957018524296886921e+09,1.7957018524296886921e+09,1.7957018524296886921e+09,1.79570185242991971967e+09,NULL,NULL,'it cannot be done',NULL);
INSERT INTO "jobs" VALUES(23,'report.fetch','rep_23 fd2cb8cf003b5f303e779ea3e39f2d59','done','{"report": "rep_23", "study_id": "stu_1", "study": "1.2.3", "critical": true, "text": "Befund", "url": "https://avara.example/x", "received": 1700000000.0, "key": null}',0,1.79570185243013596531e+09,1.79570185243013596531e+09,1.79570185243013596531e+09,1.79570185243036293978e+09,NULL,NULL,'',NULL);
INSERT INTO "jobs" VALUES(24,'report.fetch','rep_24 d5b5880b29d884c399da350718750df6','discarded','{"report": "rep_24", "study_id": "stu_1", "study": "1.2.3", "critical": true, "text": "Befund", "url": "https://avara.example/x", "received": 1700000000.0}',0,1.79570185243058800693e+09,1.79570185243058800693e+09,1.79570185243058800693e+09,1.79570185243081450457e+09,NULL,NULL,'',NULL);
INSERT INTO "jobs" VALUES(25,'report.pacs','rep_25 fb17219c88b63601144838f15474de61','running','{"report": "rep_25", "study_id": "stu_1", "study": "1.2.3", "version": 1, "critical": false, "text": "Befund", "received": 1700000000.0, "key": "reports/25.pdf", "target": "place"}',1,1.79570185243106412889e+09,1.79570185243106412889e+09,1.79570185359689617156e+09,NULL,'gateway',1.79570191243160390856e+09,'',NULL);
INSERT INTO "jobs" VALUES(26,'report.pacs','rep_26 35144e99ece675492d1f0e39d380a424','waiting','{"report": "rep_26", "study_id": "stu_1", "study": "1.2.3", "version": 1, "critical": false, "text": "Befund", "received": 1700000000.0, "key": "reports/26.pdf", "target": "place"}',1,1.79570185243137526512e+09,1.79570185243137526512e+09,1.7957018534200270176e+09,NULL,NULL,NULL,'the PACS is away',NULL);
INSERT INTO "jobs" VALUES(27,'report.pacs','rep_27 d61f897b983b3f8f1b3b038a36a87602','running','{"report": "rep_27", "study_id": "stu_1", "study": "1.2.3", "version": 1, "critical": false, "text": "Befund", "received": 1700000000.0, "key": "reports/27.pdf", "target": "place"}',1,1.79570185243268918987e+09,1.79570185243268918987e+09,1.79570185346270680426e+09,NULL,'gateway',1.7957019124329333305e+09,'',NULL);
INSERT INTO "jobs" VALUES(28,'report.pacs','rep_28 e0cd5fa56faea3aa9f61cb4185b0e293','quarantined','{"report": "rep_28", "study_id": "stu_1", "study": "1.2.3", "version": 1, "critical": false, "text": "Befund", "received": 1700000000.0, "key": "reports/28.pdf", "target": "place"}',0,1.79570185243362712861e+09,1.79570185243362712861e+09,1.79570185243362712861e+09,1.79570185243399691584e+09,NULL,NULL,'it cannot be done',NULL);
INSERT INTO "jobs" VALUES(29,'report.pacs','rep_29 3f90f939e7e5ecbb9b9b57cc80fb7561','done','{"report": "rep_29", "study_id": "stu_1", "study": "1.2.3", "version": 1, "critical": false, "text": "Befund", "received": 1700000000.0, "key": null, "target": "place"}',0,1.79570185243422126772e+09,1.79570185243422126772e+09,1.79570185243422126772e+09,1.79570185243448019029e+09,NULL,NULL,'',NULL);
INSERT INTO "jobs" VALUES(30,'report.pacs','rep_30 8f7d30be690eff8494d372bcd4bf47dc','discarded','{"report": "rep_30", "study_id": "stu_1", "study": "1.2.3", "version": 1, "critical": false, "text": "Befund", "received": 1700000000.0, "key": "reports/30.pdf", "target": "place"}',0,1.79570185243472218517e+09,1.79570185243472218517e+09,1.79570185243472218517e+09,1.7957018524349555969e+09,NULL,NULL,'',NULL);
INSERT INTO "jobs" VALUES(31,'report.hl7','rep_31 629d229647193ec642e6648d50955a10','running','{"report": "rep_31", "study_id": "stu_1", "study": "1.2.3", "version": 1, "critical": false, "text": "Befund", "received": 1700000000.0, "key": "reports/31.pdf", "target": "place"}',1,1.79570185243520188326e+09,1.79570185243520188326e+09,1.79570185335591912269e+09,NULL,'gateway',1.79570191243573617934e+09,'',NULL);
INSERT INTO "jobs" VALUES(32,'report.hl7','rep_32 1451638082786a314918d116650911dc','waiting','{"report": "rep_32", "study_id": "stu_1", "study": "1.2.3", "version": 1, "critical": false, "text": "Befund", "received": 1700000000.0, "key": "reports/32.pdf", "target": "place"}',1,1.79570185243550658224e+09,1.79570185243550658224e+09,1.79570185340339708328e+09,NULL,NULL,NULL,'the PACS is away',NULL);
INSERT INTO "jobs" VALUES(33,'report.hl7','rep_33 067b66b99813812c4d0d7d6b1090736b','running','{"report": "rep_33", "study_id": "stu_1", "study": "1.2.3", "version": 1, "critical": false, "text": "Befund", "received": 1700000000.0, "key": "reports/33.pdf", "target": "place"}',1,1.79570185243676066393e+09,1.79570185243676066393e+09,1.7957018535363910198e+09,NULL,'gateway',1.79570191243699550632e+09,'',NULL);
INSERT INTO "jobs" VALUES(34,'report.hl7','rep_34 3e293e6656c5eb856c2d2c1f1ceec668','quarantined','{"report": "rep_34", "study_id": "stu_1", "study": "1.2.3", "version": 1, "critical": false, "text": "Befund", "received": 1700000000.0, "key": "reports/34.pdf", "target": "place"}',0,1.79570185243744778638e+09,1.79570185243744778638e+09,1.79570185243744778638e+09,1.79570185243768501285e+09,NULL,NULL,'it cannot be done',NULL);
INSERT INTO "jobs" VALUES(35,'report.hl7','rep_35 f10edd05600c16ab945ece6a49c7d158','done','{"report": "rep_35", "study_id": "stu_1", "study": "1.2.3", "version": 1, "critical": false, "text": "Befund", "received": 1700000000.0, "key": null, "target": "place"}',0,1.79570185243790102005e+09,1.79570185243790102005e+09,1.79570185243790102005e+09,1.79570185243813562397e+09,NULL,NULL,'',NULL);
INSERT INTO "jobs" VALUES(36,'report.hl7','rep_36 3ee346709b461a27d90f52e8d089faac','discarded','{"report": "rep_36", "study_id": "stu_1", "study": "1.2.3", "version": 1, "critical": false, "text": "Befund", "received": 1700000000.0, "key": "reports/36.pdf", "target": "place"}',0,1.7957018524383637905e+09,1.7957018524383637905e+09,1.7957018524383637905e+09,1.79570185243859148024e+09,NULL,NULL,'',NULL);
INSERT INTO "jobs" VALUES(37,'report.folder','rep_37 d533b9eebb2a4b8730a35d76f654ba3c','running','{"report": "rep_37", "study_id": "stu_1", "study": "1.2.3", "version": 1, "critical": false, "text": "Befund", "received": 1700000000.0, "key": "reports/37.pdf", "target": "place"}',1,1.79570185243881154067e+09,1.79570185243881154067e+09,1.79570185319740700724e+09,NULL,'gateway',1795701912.43938,'',NULL);
INSERT INTO "jobs" VALUES(38,'report.folder','rep_38 f652d308a764aa83528b5e3792151634','waiting','{"report": "rep_38", "study_id": "stu_1", "study": "1.2.3", "version": 1, "critical": false, "text": "Befund", "received": 1700000000.0, "key": "reports/38.pdf", "target": "place"}',1,1.79570185243914985659e+09,1.79570185243914985659e+09,1.79570185354598045352e+09,NULL,NULL,NULL,'the PACS is away',NULL);
INSERT INTO "jobs" VALUES(39,'report.folder','rep_39 7db3091a0a8fec5bbbb978f1bdf98722','running','{"report": "rep_39", "study_id": "stu_1", "study": "1.2.3", "version": 1, "critical": false, "text": "Befund", "received": 1700000000.0, "key": "reports/39.pdf", "target": "place"}',1,1.79570185244038248066e+09,1.79570185244038248066e+09,1.79570185361553812022e+09,NULL,'gateway',1.79570191244061684609e+09,'',NULL);
INSERT INTO "jobs" VALUES(40,'report.folder','rep_40 b4da5bc0383d63d58130fc6b96ab9148','quarantined','{"report": "rep_40", "study_id": "stu_1", "study": "1.2.3", "version": 1, "critical": false, "text": "Befund", "received": 1700000000.0, "key": "reports/40.pdf", "target": "place"}',0,1.79570185244107055665e+09,1.79570185244107055665e+09,1.79570185244107055665e+09,1.79570185244130539896e+09,NULL,NULL,'it cannot be done',NULL);
INSERT INTO "jobs" VALUES(41,'report.folder','rep_41 31a80ec1045b0f98a3fccab91dd885b8','done','{"report": "rep_41", "study_id": "stu_1", "study": "1.2.3", "version": 1, "critical": false, "text": "Befund", "received": 1700000000.0, "key": null, "target": "place"}',0,1.79570185244151949884e+09,1.79570185244151949884e+09,1.79570185244151949884e+09,1.79570185244174504281e+09,NULL,NULL,'',NULL);
INSERT INTO "jobs" VALUES(42,'report.folder','rep_42 bb6a8a100174ae8f1533bb1d60b56714','discarded','{"report": "rep_42", "study_id": "stu_1", "study": "1.2.3", "version": 1, "critical": false, "text": "Befund", "received": 1700000000.0, "key": "reports/42.pdf", "target": "place"}',0,1.79570185244196891781e+09,1.79570185244196891781e+09,1.79570185244196891781e+09,1.7957018524421949387e+09,NULL,NULL,'',NULL);
INSERT INTO "jobs" VALUES(43,'report.alert','rep_43 3d367786516f99ba80278117d729d157','running','{"report": "rep_43", "study_id": "stu_1", "study": "1.2.3", "received": 1700000000.0, "alert": "report.critical", "digest": "d43", "channel": "email"}',1,1.79570185244241023068e+09,1.79570185244241023068e+09,1.79570185340375590324e+09,NULL,'gateway',1.79570191244293165212e+09,'',NULL);
INSERT INTO "jobs" VALUES(44,'report.alert','rep_44 11ec53faa1c2079ba7c8a8c668a53391','waiting','{"report": "rep_44", "study_id": "stu_1", "study": "1.2.3", "received": 1700000000.0, "alert": "report.critical", "digest": "d44", "channel": "email"}',1,1.79570185244270706173e+09,1.79570185244270706173e+09,1.79570185357389450067e+09,NULL,NULL,NULL,'the PACS is away',NULL);
INSERT INTO "jobs" VALUES(45,'report.alert','rep_45 356e7a8305292238b8e08801880dd6e5','running','{"report": "rep_45", "study_id": "stu_1", "study": "1.2.3", "received": 1700000000.0, "alert": "report.critical", "digest": "d45", "channel": "email"}',1,1.79570185244394874574e+09,1.79570185244394874574e+09,1.79570185319457411763e+09,NULL,'gateway',1.79570191244418406488e+09,'',NULL);
INSERT INTO "jobs" VALUES(46,'report.alert','rep_46 921a9483c0e0862a8f42a2701f3b2e63','quarantined','{"report": "rep_46", "study_id": "stu_1", "study": "1.2.3", "received": 1700000000.0, "alert": "report.critical", "digest": "d46", "channel": "email"}',0,1.79570185244470834733e+09,1.79570185244470834733e+09,1.79570185244470834733e+09,1.79570185244494581223e+09,NULL,NULL,'it cannot be done',NULL);
INSERT INTO "jobs" VALUES(47,'report.alert','rep_47 49715410aad2ac92baad02484a695812','done','{"report": "rep_47", "study_id": "stu_1", "study": "1.2.3", "received": 1700000000.0, "alert": "report.critical", "digest": "d47", "channel": "email", "key": null}',0,1.79570185244516348837e+09,1.79570185244516348837e+09,1.79570185244516348837e+09,1.79570185244539427763e+09,NULL,NULL,'',NULL);
INSERT INTO "jobs" VALUES(48,'report.alert','rep_48 cd3e81442a2be0a391530b3e6088f0ff','discarded','{"report": "rep_48", "study_id": "stu_1", "study": "1.2.3", "received": 1700000000.0, "alert": "report.critical", "digest": "d48", "channel": "email"}',0,1.79570185244562244416e+09,1.79570185244562244416e+09,1.79570185244562244416e+09,1795701852.44585,NULL,NULL,'',NULL);
INSERT INTO "jobs" VALUES(49,'object.clean','outbox/old49 1','running','{"key": "outbox/old49"}',1,1.79570185244606709477e+09,1.79570185244606709477e+09,1.79570185354625868798e+09,NULL,'gateway',1.79570191244658708571e+09,'',NULL);
INSERT INTO "jobs" VALUES(50,'object.clean','outbox/old50 1','waiting','{"key": "outbox/old50"}',1,1.79570185244636225697e+09,1.79570185244636225697e+09,1.79570185354009771347e+09,NULL,NULL,NULL,'the PACS is away',NULL);
INSERT INTO "jobs" VALUES(51,'object.clean','outbox/old51 1','running','{"key": "outbox/old51"}',1,1.79570185244761753077e+09,1.79570185244761753077e+09,1.79570185353129220008e+09,NULL,'gateway',1.79570191244784307482e+09,'',NULL);
INSERT INTO "jobs" VALUES(52,'object.clean','outbox/old52 1','quarantined','{"key": "outbox/old52"}',0,1.79570185244828724865e+09,1.79570185244828724865e+09,1.79570185244828724865e+09,1.79570185244851779934e+09,NULL,NULL,'it cannot be done',NULL);
INSERT INTO "jobs" VALUES(53,'object.clean','outbox/old53 1','done','{"key": null}',0,1.79570185244873023033e+09,1.79570185244873023033e+09,1.79570185244873023033e+09,1.79570185244895482064e+09,NULL,NULL,'',NULL);
INSERT INTO "jobs" VALUES(54,'object.clean','outbox/old54 1','discarded','{"key": "outbox/old54"}',0,1.79570185244917345044e+09,1.79570185244917345044e+09,1.79570185244917345044e+09,1.79570185244939398766e+09,NULL,NULL,'',NULL);
INSERT INTO "jobs" VALUES(55,'capture.store','1.2.3.900 main','waiting','{"slot": "slot900", "target": "main", "key": "outbox/1.2.3.900/abc", "size": 10, "sha256": "abababababababababababababababababababababababababababababababab", "study": "1.2.3", "sop_class": "1.2.840.10008.5.1.4.1.1.7", "sop_instance": "1.2.3.900", "transfer_syntax": "1.2.840.10008.1.2.1", "stored": true}',0,1.79570185244961309433e+09,1.79570185245016956327e+09,1.7957027524501695633e+09,NULL,NULL,NULL,'','2.25.900');
INSERT INTO "jobs" VALUES(56,'capture.store','1.2.3.901 main','waiting','{"slot": "slot901", "target": "main", "key": "outbox/1.2.3.901/abc", "size": 10, "sha256": "abababababababababababababababababababababababababababababababab", "study": "1.2.3", "sop_class": "1.2.840.10008.5.1.4.1.1.7", "sop_instance": "1.2.3.901", "transfer_syntax": "1.2.840.10008.1.2.1", "stored": true, "result": "", "tries": 1}',0,1.79570185245068144794e+09,1.79570185245103240015e+09,1.79570275245103240014e+09,NULL,NULL,NULL,'','2.25.901');
INSERT INTO "jobs" VALUES(57,'capture.store','1.2.3.902 main','waiting','{"slot": "slot902", "target": "main", "key": "outbox/1.2.3.902/abc", "size": 10, "sha256": "abababababababababababababababababababababababababababababababab", "study": "1.2.3", "sop_class": "1.2.840.10008.5.1.4.1.1.7", "sop_instance": "1.2.3.902", "transfer_syntax": "1.2.840.10008.1.2.1", "stored": true, "result": "no such object instance (0112)"}',0,1.79570185245128273966e+09,1.79570185245158529278e+09,1.79570275245158529281e+09,NULL,NULL,NULL,'','2.25.902');
INSERT INTO "jobs" VALUES(58,'capture.store','1.2.3.903 main','done','{"slot": "slot903", "target": "main", "key": null, "size": 10, "sha256": "abababababababababababababababababababababababababababababababab", "study": "1.2.3", "sop_class": "1.2.840.10008.5.1.4.1.1.7", "sop_instance": "1.2.3.903", "transfer_syntax": "1.2.840.10008.1.2.1"}',0,1.79570185245181226734e+09,1.79570185245181226734e+09,1.79570185245181226734e+09,1.79570185245209813125e+09,NULL,NULL,'','2.25.903');
CREATE TABLE reports (
	report_id VARCHAR(256) NOT NULL, 
	version INTEGER NOT NULL, 
	content VARCHAR(64) NOT NULL, 
	study_instance_uid VARCHAR(64) NOT NULL, 
	has_pdf BOOLEAN NOT NULL, 
	has_text BOOLEAN NOT NULL, 
	received FLOAT NOT NULL, 
	PRIMARY KEY (report_id, version), 
	CONSTRAINT reports_by_content UNIQUE (report_id, content)
);
CREATE TABLE studies (
	study_id VARCHAR(256) NOT NULL, 
	study_instance_uid VARCHAR(64) NOT NULL, 
	first_seen FLOAT NOT NULL, 
	last_seen FLOAT NOT NULL, 
	PRIMARY KEY (study_id)
);
INSERT INTO "studies" VALUES('stu_1','1.2.3',1.79570185245225739478e+09,1.79570185245225739478e+09);
CREATE TABLE upload_slots (
	id VARCHAR(64) NOT NULL, 
	webhook_id VARCHAR(256) NOT NULL, 
	study_id VARCHAR(256) NOT NULL, 
	study_instance_uid VARCHAR(64) NOT NULL, 
	series_instance_uid VARCHAR(64), 
	sop_instance_uid VARCHAR(64), 
	created FLOAT NOT NULL, 
	expires FLOAT NOT NULL, 
	taken VARCHAR(64), 
	closed BOOLEAN NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (webhook_id)
);
INSERT INTO "upload_slots" VALUES('slot1','msg_1','stu_1','1.2.3',NULL,NULL,1.79570185245284509654e+09,1.79570545245284509663e+09,NULL,0);
CREATE INDEX studies_by_uid ON studies (study_instance_uid);
CREATE INDEX cached_studies_by_use ON cached_studies (last_used);
CREATE INDEX jobs_by_due ON jobs (state, next_at);
CREATE INDEX jobs_by_token ON jobs (token);
CREATE INDEX job_history_by_job ON job_history (job_id);
CREATE INDEX upload_slots_by_closed ON upload_slots (closed, expires);
COMMIT;
