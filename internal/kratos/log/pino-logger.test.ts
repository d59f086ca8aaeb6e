import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { PinoLogger } from './pino-logger.js';

describe('PinoLogger', () => {
  const written: Record<string, unknown>[] = [];
  const to = { write: (line: string) => void written.push(JSON.parse(line) as Record<string, unknown>) };
  beforeEach(() => written.splice(0));

  it('redacts secrets by their names, also one and two levels down', () => {
    const logger = PinoLogger.create({ level: 'info', pretty: false }, { app: 'test' }, to);
    logger.info('m', {
      token: 'hush-1',
      headers: { authorization: 'hush-2', 'x-internal-token': 'hush-3' },
      a: { b: { password: 'hush-4' } },
    });
    assert.equal(written.length, 1);
    assert.doesNotMatch(JSON.stringify(written), /hush/);
    assert.equal(written[0]?.app, 'test');
    assert.equal(written[0]?.level, 'info');
  });

  it('writes an error with the chain of its causes', () => {
    const logger = PinoLogger.create({ level: 'info', pretty: false }, {}, to);
    logger.error('m', { err: new Error('outer', { cause: new Error('inner') }) });
    assert.match(JSON.stringify(written[0]), /outer.*inner/);
  });

  it('writes no properties of an error other than its name, message, code, reason, stack and causes', () => {
    const logger = PinoLogger.create({ level: 'info', pretty: false }, {}, to);
    const auth = Object.assign(new Error('WRONGPASS'), { command: { name: 'auth', args: ['hush-1'] }, code: 'E' });
    const url = Object.assign(new TypeError('Invalid URL'), { input: 'amqp://u:hush-2@h', code: 'ERR_INVALID_URL' });
    const both = new AggregateError([auth, url], 'both failed', { cause: Object.assign(new Error('c'), { hush: 3 }) });
    logger.error('m', { err: both });
    logger.error('m', { err: { input: 'hush-4' } });
    const text = JSON.stringify(written);
    assert.doesNotMatch(text, /hush/);
    assert.match(text, /both failed.*"cause".*WRONGPASS.*ERR_INVALID_URL/);
  });

  it('changes the level of existing children', () => {
    const logger = PinoLogger.create({ level: 'warn', pretty: false }, {}, to);
    const child = logger.child({ part: 'x' });
    child.info('quiet');
    logger.level = 'debug';
    child.debug('told');
    logger.level = 'error';
    child.warn('quiet again');
    assert.deepEqual(
      written.map((l) => [l.msg, l.part]),
      [['told', 'x']],
    );
  });

  it('writes a line for people: time, level, message, and fields as text or JSON', () => {
    const module = JSON.stringify(new URL('./pino-logger.js', import.meta.url).href);
    const program = `import { PinoLogger } from ${module};
      PinoLogger.create({ level: 'info', pretty: true }, {}).info('sold out', { sale: 'seven', left: [0, { of: 3 }] });`;
    const out = execFileSync(process.execPath, ['--input-type=module', '--eval', program], { encoding: 'utf8' });
    assert.match(out, /^\d\d:\d\d:\d\d\.\d{3} INFO {2}sold out.* sale=seven left=\[0,\{"of":3\}\]\n$/);
  });
});
