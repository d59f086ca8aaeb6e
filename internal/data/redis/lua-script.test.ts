import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import {
  ADMIT,
  CLOSE,
  CONSUMERS,
  FINISH,
  LIMIT,
  LOAD,
  type LuaScript,
  RATE,
  RETURN_UNITS,
  STOCK_GATE,
  WAITING_ROOM,
} from './lua-script.js';

const SCRIPTS: readonly LuaScript<string>[] = [
  ADMIT,
  CLOSE,
  CONSUMERS,
  FINISH,
  LIMIT,
  LOAD,
  RATE,
  RETURN_UNITS,
  STOCK_GATE,
  WAITING_ROOM,
];

describe('lua scripts', () => {
  it('are all of the folder', () => {
    const files = readdirSync(new URL('./lua/', import.meta.url)).sort();
    assert.deepEqual(
      files,
      SCRIPTS.map((s) => `${s.name}.lua`),
    );
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

      it('is flagged by a shebang, and only what makes room may run when Redis is full', () => {
        assert.equal(lines[0], script === FINISH ? '#!lua flags=allow-oom' : '#!lua');
      });

      it('names its keys in the order that the code passes them', () => {
        const named = section('KEYS').flatMap((line) => {
          const match = /^-- {3}(\d+) (\w+) /.exec(line);
          return match ? [[Number(match[1]), match[2]]] : [];
        });
        const camel = (name: unknown) => String(name).replace(/_(\w)/g, (_, c: string) => c.toUpperCase());
        assert.deepEqual(
          named.map(([n, name]) => [n, camel(name)]),
          script.keys.map((key, i) => [i + 1, key]),
        );
      });

      it('checks for as many keys as it names and uses each', () => {
        const body = script.source.slice(script.source.indexOf('\n\n'));
        const checked = /#KEYS ~= (\d+)/.exec(body)?.[1];
        assert.equal(Number(checked), script.keys.length);
        const used = [...body.matchAll(/KEYS\[(\d+)/g)].map((m) => Number(m[1]));
        assert.ok(Math.max(...used) <= script.keys.length);
      });

      it('says what it takes, returns and raises', () => {
        for (const title of ['ARGV', 'Returns', 'Errors']) assert.notEqual(section(title).length, 0, title);
      });
    });
  }
});
