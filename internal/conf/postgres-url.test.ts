import assert from 'node:assert/strict';
import { parsePostgresUrl } from './postgres-url.js';
import { withPassword } from './url-password.js';

describe('parsePostgresUrl', () => {
  it('gives the URL of each host, and what is wanted of its server', () => {
    assert.deepEqual(
      parsePostgresUrl(
        'postgres://u:p%40@one:5432,[::1]:5433,three/db?target_session_attrs=read-write&sslmode=disable',
      ),
      {
        urls: [
          'postgres://u:p%40@one:5432/db?sslmode=disable',
          'postgres://u:p%40@[::1]:5433/db?sslmode=disable',
          'postgres://u:p%40@three/db?sslmode=disable',
        ],
        target: 'read-write',
      },
    );
    const last = parsePostgresUrl('postgresql://a,b/db?sslmode=disable&target_session_attrs=standby');
    assert.deepEqual(last, {
      urls: ['postgresql://a/db?sslmode=disable', 'postgresql://b/db?sslmode=disable'],
      target: 'standby',
    });
    assert.deepEqual(parsePostgresUrl('postgres://a,b/db?target_session_attrs=any').urls, [
      'postgres://a/db',
      'postgres://b/db',
    ]);
  });

  it('leaves the address of one server as it is', () => {
    for (const url of [
      'postgres://u:p@h:5432/db?x=1',
      'postgres:///db?host=/run/postgresql',
      'socket:/run/postgresql?db=a,b',
      '/run/postgresql db',
      'postgres://u:a,b@h/db',
    ]) {
      assert.deepEqual(parsePostgresUrl(url), { urls: [url], target: undefined });
    }
    assert.deepEqual(parsePostgresUrl('postgres://h/db?target_session_attrs=primary'), {
      urls: ['postgres://h/db'],
      target: 'primary',
    });
  });

  it('says what is wrong, without the password', () => {
    for (const [url, expected] of [
      ['postgres://u:secret@a,b/db?target_session_attrs=writable', /must have one of any, .* as target_session_attrs/],
      ['postgres://u:secret@a,,b/db', /no host as number 2/],
      ['postgres://u:secret@a:x,b/db', /no host as number 1/],
      ['postgres://u:secret@a,b:70000/db', /no port .* at number 2/],
      ['postgres://u:secret@a:1,a:1/db', /each of its hosts once/],
      ['postgres://u:secret@/db?host=a,b', /before the database/],
      [`postgres://u:secret@${Array.from({ length: 17 }, (_, i) => `h${i}`).join(',')}/db`, /at most 16/],
    ] as const) {
      assert.throws(
        () => parsePostgresUrl(url),
        (err: Error) => expected.test(err.message) && !err.message.includes('secret'),
        url,
      );
    }
  });

  it('is not misled by a password that is added to a URL with several hosts', () => {
    const url = withPassword('postgres://product:old@one:5432,two:5433/db?target_session_attrs=primary', 'a,b@/:#?%');
    const { urls, target } = parsePostgresUrl(url);
    assert.equal(target, 'primary');
    for (const [i, host] of ['one:5432', 'two:5433'].entries()) {
      const one = new URL(urls[i]!);
      assert.deepEqual(
        [one.username, decodeURIComponent(one.password), one.host, one.pathname],
        ['product', 'a,b@/:#?%', host, '/db'],
      );
    }
  });
});
