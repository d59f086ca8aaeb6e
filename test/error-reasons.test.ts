import assert from 'node:assert/strict';
import { REASONS } from '../gen/common/v1/errors.js';
import { FRAMEWORK_REASONS } from '../internal/kratos/errors/reasons.js';

describe("The framework's error reasons", () => {
  it('have the names and codes that common.v1.ErrorReason declares', () => {
    const declared = new Map(REASONS.map((spec) => [spec.reason, spec]));
    assert.ok(FRAMEWORK_REASONS.length > 0);
    for (const spec of FRAMEWORK_REASONS) assert.deepEqual(spec, declared.get(spec.reason));
  });
});
