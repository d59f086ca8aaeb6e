import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { projectRoot } from '../../local/project.js';
import {
  ADMIT,
  CART_CLAIM,
  CART_READ,
  CART_REMOVE,
  CART_SAVED,
  CART_TAKE,
  CLOSE,
  CONFIGURE,
  FIND_ADMITTED,
  FINISH,
  INSPECT,
  LEVEL,
  type LuaScript,
  SCRIPTS,
  WITHDRAW,
} from './lua-script.js';

const files = (folder: string) =>
  readdirSync(new URL(folder, import.meta.url))
    .filter((file) => file.endsWith('.lua'))
    .sort();

/** By the first line: reading scripts write nothing; the others of these must also run when Redis is full. */
const FLAGS = new Map<LuaScript<string>, string>([
  [FIND_ADMITTED, '#!lua flags=no-writes'],
  [INSPECT, '#!lua flags=no-writes'],
  [LEVEL, '#!lua flags=no-writes'],
  [FINISH, '#!lua flags=allow-oom'],
  [CLOSE, '#!lua flags=allow-oom'],
  [CONFIGURE, '#!lua flags=allow-oom'],
  [WITHDRAW, '#!lua flags=allow-oom'],
  [CART_CLAIM, '#!lua flags=allow-oom'],
  [CART_READ, '#!lua flags=allow-oom'],
  [CART_REMOVE, '#!lua flags=allow-oom'],
  [CART_SAVED, '#!lua flags=allow-oom'],
  [CART_TAKE, '#!lua flags=allow-oom'],
]);

describe('lua scripts', () => {
  it('every file of the folder is a script that the code can run', () => {
    assert.deepEqual(
      files('./lua/'),
      SCRIPTS.map((s) => `${s.name}.lua`),
    );
  });

  it('every include is used and none is left unresolved', () => {
    const raw = SCRIPTS.map((s) => readFileSync(new URL(`./lua/${s.name}.lua`, import.meta.url), 'utf8'));
    const used = raw.flatMap((text) => [...text.matchAll(/^-- include: (\w+)$/gm)].map((m) => `${m[1]}.lua`));
    assert.deepEqual([...new Set(used)].sort(), files('./lua/include/'));
    for (const script of SCRIPTS) assert.doesNotMatch(script.source, /-- include:/, script.name);
  });

  it('api/seckill/v1/admit.lua is the script that the service runs (if not: make lua)', () => {
    const published = readFileSync(join(projectRoot, 'api/seckill/v1/admit.lua'), 'utf8');
    assert.equal(published, ADMIT.source);
  });

  for (const script of SCRIPTS) {
    describe(script.name, () => {
      const lines = script.source.split('\n');
      const header = lines.slice(
        1,
        lines.findIndex((line, i) => i > 0 && !line.startsWith('--')),
      );
      const section = (title: string) => {
        const from = header.findIndex((line) => line.startsWith(`-- ${title}`));
        assert.notEqual(from, -1, `the header has no ${title}`);
        const rest = header.slice(from + 1);
        const to = rest.findIndex((line) => /^-- [A-Z]/.test(line));
        return to === -1 ? rest : rest.slice(0, to);
      };

      it('its shebang says whether it writes and whether it may run when Redis is full', () => {
        assert.equal(lines[0], FLAGS.get(script) ?? '#!lua');
      });

      it('its header names its keys in the order that the code passes them', () => {
        const named = section('KEYS').flatMap((line) => {
          const match = /^-- {2,3}(\d+) (\w+) /.exec(line);
          return match ? [[Number(match[1]), match[2]]] : [];
        });
        const camel = (name: unknown) => String(name).replace(/_(\w)/g, (_, c: string) => c.toUpperCase());
        assert.deepEqual(
          named.map(([n, name]) => [n, camel(name)]),
          script.keys.map((key, i) => [i + 1, key]),
        );
      });

      it('it checks for as many keys as its header names and uses no further one', () => {
        const body = script.source.slice(script.source.indexOf('\n\n'));
        const checked = /#KEYS ~= (\d+)/.exec(body)?.[1];
        assert.equal(Number(checked), script.keys.length);
        const used = [...body.matchAll(/KEYS\[(\d+)/g)].map((m) => Number(m[1]));
        assert.ok(Math.max(...used) <= script.keys.length);
      });

      it('its header says what it takes, returns and raises', () => {
        for (const title of ['ARGV', 'Returns', 'Errors']) assert.notEqual(section(title).length, 0, title);
      });
    });
  }
});
