import assert from 'node:assert/strict';
import type { Call } from './call.js';
import { ClientAddresses } from './client-address.js';

function call(peer: string, forwarded: readonly string[] = [], realIp?: string): Call {
  return {
    peer,
    metadata: (name: string) => (name === 'x-real-ip' ? realIp : undefined),
    metadataAll: (name: string) => (name === 'x-forwarded-for' ? forwarded : []),
  } as unknown as Call;
}

describe('The address of a client', () => {
  const direct = new ClientAddresses([]);
  const proxied = new ClientAddresses(['10.0.0.0/8', '192.0.2.7', 'fd00::/8']);

  it('is the peer, whatever headers an untrusted peer sends', () => {
    assert.equal(direct.keyOf(call('203.0.113.9:1234', ['1.1.1.1'], '2.2.2.2')), '203.0.113.9');
    assert.equal(proxied.keyOf(call('203.0.113.9:1234', ['1.1.1.1'], '2.2.2.2')), '203.0.113.9');
    assert.equal(direct.keyOf(call('::ffff:203.0.113.9:1234')), '203.0.113.9');
  });

  it('is the last forwarded address that does not belong to a trusted proxy', () => {
    assert.equal(proxied.keyOf(call('10.1.2.3:80', ['6.6.6.6, 203.0.113.9, 192.0.2.7', '10.1.2.3'])), '203.0.113.9');
    assert.equal(proxied.keyOf(call('fd00::1:80', ['203.0.113.9'])), '203.0.113.9');
    assert.equal(proxied.keyOf(call('::ffff:10.1.2.3:80', [' 203.0.113.9 '])), '203.0.113.9');
  });

  it('is the X-Real-IP of a trusted proxy, or the proxy itself, if no forwarded address can be trusted', () => {
    assert.equal(proxied.keyOf(call('10.1.2.3:80', [], '203.0.113.9')), '203.0.113.9');
    assert.equal(proxied.keyOf(call('10.1.2.3:80', ['6.6.6.6, unknown'])), '10.1.2.3');
    assert.equal(proxied.keyOf(call('10.1.2.3:80', ['10.9.9.9'], 'nonsense')), '10.1.2.3');
  });

  it('is the /64 of an IPv6 address in any notation', () => {
    const key = '2001:db8:0:1::/64';
    for (const address of [
      '2001:db8:0:1::1',
      '2001:DB8:0:1:ffff:ffff:ffff:ffff',
      '2001:0db8:0000:0001::2',
      '2001:db8:0:1:0:0:0:3',
    ]) {
      assert.equal(direct.keyOf(call(`${address}:443`)), key, address);
    }
    assert.equal(direct.keyOf(call('2001:db8::5:443')), '2001:db8:0:0::/64');
    assert.equal(direct.keyOf(call('::1:443')), '0:0:0:0::/64');
    assert.equal(direct.keyOf(call('fe80::1%eth0:443')), 'fe80:0:0:0::/64');
  });
});
