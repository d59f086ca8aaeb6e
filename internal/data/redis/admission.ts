import { AdmissionInSegments } from './admission-in-segments.js';
import { REAL_PACE } from './pace.js';
import type { RedisServer } from './redis.js';
import { SegmentAdmission } from './segment-admission.js';
import { RedisUnitMoves } from './unit-moves.js';

/** Admission by Lua scripts in Redis. */
export class RedisAdmission extends AdmissionInSegments {
  constructor(server: RedisServer) {
    super((segment) => new SegmentAdmission(server, segment), new RedisUnitMoves(server), REAL_PACE);
  }
}
