/**
 * A process that is started before its code is final: it loads the packages that a program imports, waits for a line on
 * stdin, and then becomes that program. `kaimai up --watch` keeps one for each service, because the packages are most of
 * the time that a service needs to start, and they do not change when a file is saved.
 *
 *     node standby.js <inspector port or 0> <main.js> [argument…]
 *
 * It ends with its launcher, whose end closes stdin.
 */
import { once } from 'node:events';
import { open } from 'node:inspector';
import { dirname, relative } from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import { ImportGraph } from './import-graph.js';

/** OpenTelemetry patches these while the program loads them. */
const INSTRUMENTED = ['amqplib', 'ioredis', 'pg'];

const [node = '', , inspectorPort = '0', program = '', ...args] = process.argv;
const input = createInterface({ input: process.stdin });
const released = once(input, 'line');
const abandoned = once(input, 'close').then(() => process.exit());

const graph = new ImportGraph(dirname(program));
const packages = graph.packagesOf(relative(dirname(program), program));
for (const name of packages) {
  if (!INSTRUMENTED.some((left) => name === left || name.startsWith(`${left}/`))) await import(name).catch(() => {});
}
await Promise.race([released, abandoned]);
input.removeAllListeners('close').close();
process.stdin.destroy();
if (inspectorPort !== '0') open(Number(inspectorPort), '127.0.0.1');
process.argv = [node, program, ...args];
await import(pathToFileURL(program).href);
