import assert from 'node:assert/strict';
import { isCartTokenExpired, isCartTokenInvalid } from '../../../gen/cart/v1/errors.js';
import { cartName, ownerOfName, userCart } from './cart-owner.js';
import { GuestTokens } from './guest-token.js';

const USER = '00000000-0000-8000-8000-00000000007b';

describe('GuestTokens', () => {
  let nowMs = 1_700_000_000_000;
  const tokensOf = (...secrets: [string, ...string[]]) => new GuestTokens({ secrets, ttlMs: 1_000 }, () => nowMs);
  const tokens = tokensOf('one');

  it('knows a token that it has issued until it expires', () => {
    const { token, expiresAt } = tokens.issue();
    assert.deepEqual(tokens.ownerOf(token).guest, { token, expiresAt });
    assert.notEqual(tokens.ownerOf(token).id, tokens.ownerOf(tokens.issue().token).id);
    nowMs = expiresAt.getTime() - 1;
    tokens.ownerOf(token);
    nowMs++;
    assert.throws(() => tokens.ownerOf(token), isCartTokenExpired);
  });

  it('takes no token with any character changed, added or left out', () => {
    const { token } = tokens.issue();
    for (let i = 0; i < token.length; i++) {
      for (const other of ['0', 'A', '-', '.', ' ', '手', '']) {
        if (token[i] === other) continue;
        const changed = token.slice(0, i) + other + token.slice(i + 1);
        assert.throws(() => tokens.ownerOf(changed), isCartTokenInvalid, changed);
      }
    }
    for (const other of ['', `${token}=`, `${token}\n`, `${token}${token}`, 'guest:x']) {
      assert.throws(() => tokens.ownerOf(other), isCartTokenInvalid, other);
    }
  });

  it('has one spelling of a token, although several texts decode to the same signature', () => {
    const { token } = tokens.issue();
    const last = token.at(-1)!;
    const signature = Buffer.from(token.slice(-43), 'base64url');
    const others = [...'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_']
      .filter((letter) => letter !== last)
      .map((letter) => token.slice(0, -1) + letter)
      .filter((other) => Buffer.from(other.slice(-43), 'base64url').equals(signature));
    assert.equal(others.length, 3);
    for (const other of others) assert.throws(() => tokens.ownerOf(other), isCartTokenInvalid);
  });

  it('takes tokens of the previous secret and no longer those of an older one', () => {
    const { token } = tokens.issue();
    assert.equal(tokensOf('two', 'one').ownerOf(token).id, tokens.ownerOf(token).id);
    assert.throws(() => tokensOf('three', 'two').ownerOf(token), isCartTokenInvalid);
  });

  it('names each cart, and finds its owner by the name', () => {
    const { token } = tokens.issue();
    for (const owner of [userCart(USER), tokens.ownerOf(token)]) assert.deepEqual(ownerOfName(cartName(owner)), owner);
    for (const name of [
      '',
      'guest:',
      'guest:x',
      `guest:${USER}`,
      USER.toUpperCase().replace('B', 'G'),
      `${USER}:meta`,
    ]) {
      assert.equal(ownerOfName(name), undefined, name);
    }
  });
});
