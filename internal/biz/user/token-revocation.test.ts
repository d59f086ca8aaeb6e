import assert from 'node:assert/strict';
import { isUnavailable } from '../../../gen/common/v1/errors.js';
import { type TokenRevocation, TokenRevocations } from './token-revocation.js';

describe('TokenRevocations', () => {
  const LIFETIME_MS = 7_200_000;
  const asked: number[] = [];
  let nowMs = 0;
  let rows: TokenRevocation[] = [];
  let revocations: TokenRevocations;

  beforeEach(() => {
    asked.splice(0);
    rows = [];
    nowMs = 1_000_000;
    const users = {
      listRevocations: async (withinMs: number) => {
        asked.push(withinMs);
        return rows;
      },
    };
    revocations = new TokenRevocations(users, { lifetimeMs: LIFETIME_MS }, () => nowMs);
  });

  it('know no token before they are loaded, and accept none', () => {
    assert.throws(() => revocations.isRevoked('a', 1n), isUnavailable);
  });

  it('revoke the tokens of earlier generations of their user', async () => {
    rows = [{ userId: 'a', validGeneration: 3n }];
    await revocations.refresh();
    assert.deepEqual(
      [1n, 2n, 3n, 4n].map((generation) => revocations.isRevoked('a', generation)),
      [true, true, false, false],
    );
    assert.equal(revocations.isRevoked('b', 1n), false);
    rows = [{ userId: 'a', validGeneration: 2n }];
    await revocations.refresh();
    assert.equal(revocations.isRevoked('a', 2n), true);
  });

  it('read a lifetime at first, and then what is new with an overlap of a minute', async () => {
    await revocations.refresh();
    nowMs += 2_000;
    await revocations.refresh();
    nowMs += 10 * LIFETIME_MS;
    await revocations.refresh();
    assert.deepEqual(asked, [LIFETIME_MS, 62_000, LIFETIME_MS]);
  });

  it('are forgotten when every token of their time has expired', async () => {
    rows = [{ userId: 'a', validGeneration: 2n }];
    await revocations.refresh();
    rows = [];
    nowMs += LIFETIME_MS;
    await revocations.refresh();
    assert.equal(revocations.isRevoked('a', 1n), true);
    nowMs += 1;
    await revocations.refresh();
    assert.equal(revocations.isRevoked('a', 1n), false);
  });
});
