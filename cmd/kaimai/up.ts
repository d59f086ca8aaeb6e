import { Command, Option } from 'commander';
import { errorText } from '../../internal/kratos/errors/error-text.js';
import { CLUSTERED_ENGINES } from '../../internal/local/clusters/launch.js';
import { checkConfigFolder } from '../../internal/local/config-file.js';
import { findPrograms, missingPrograms } from '../../internal/local/kubernetes/programs.js';
import { Launch } from '../../internal/local/launch.js';
import { projectRoot } from '../../internal/local/project.js';
import { forgetOwnUrls, removeRunEnv } from '../../internal/local/run-env.js';
import { localDataRoot } from '../../internal/local/servers/data-root.js';
import { PLACES, serverKinds, supervisedServer } from '../../internal/local/servers/servers.js';
import { SourceWatcher } from '../../internal/local/source-watcher.js';
import { SUPERVISOR_DEFAULTS, type Supervised, Supervisor } from '../../internal/local/supervisor.js';
import { INSPECTOR_PORTS, type Started, type UpOptions } from './up/context.js';
import { migrateSchema, start } from './up/start.js';
import { describe } from './up/summary.js';

export const upCommand = new Command('up')
  .description('start everything on this machine: servers, schema, demo data, product and resource')
  .option('--watch', 'compile what is saved and restart product and resource')
  .option(
    '--inspect',
    `let a debugger attach: product on ${INSPECTOR_PORTS.product}, resource on ${INSPECTOR_PORTS.resource}`,
  )
  .addOption(
    new Option(
      '--servers <place>',
      'where to run PostgreSQL, Redis and RabbitMQ (default: where their data is)',
    ).choices(PLACES),
  )
  .option('--kubernetes', 'create instances on a Kubernetes cluster that is started too; its nodes are simulated')
  .addOption(
    new Option(
      '--cluster',
      'engines as clusters that begin empty, and two replicas each of product and resource behind etcd and balancers',
    ).conflicts(['watch', 'inspect', 'servers']),
  )
  .option('--conf <folder>', 'folder with product.yaml or resource.yaml, or both (default: configs)')
  .action(async (options: UpOptions) => {
    process.exitCode = await up(options);
  });

/** Runs until a signal, or until the start fails. Resolves with the exit code. */
async function up(options: UpOptions): Promise<number> {
  if (options.conf !== undefined) checkConfigFolder(options.conf);
  if (options.kubernetes && !findPrograms()) {
    console.error(missingPrograms());
    return 1;
  }
  forgetOwnUrls();
  // Its engines are its own, whatever the environment names.
  if (options.cluster) for (const name of CLUSTERED_ENGINES) delete process.env[serverKinds[name].urlVariable];
  const launch = await Launch.begin();
  const interruption = new AbortController();
  const signals: NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP'];
  const onSignal = () => {
    if (interruption.signal.aborted) launch.kill();
    else interruption.abort();
  };
  for (const signal of signals) process.on(signal, onSignal);

  let code = 0;
  try {
    const started = await start(launch, options, interruption.signal);
    console.log(describe(started));
    await keepRunning(started, options, interruption.signal);
  } catch (error) {
    if (!interruption.signal.aborted) {
      console.error(`\n${errorText(error)}`);
      code = 1;
    }
  }

  // Cancels what is still starting.
  interruption.abort();
  console.log('\nStopping (a second Ctrl-C kills what is left) …');
  removeRunEnv();
  for (const failure of await launch.end()) {
    console.error(errorText(failure));
    code = 1;
  }
  for (const signal of signals) process.off(signal, onSignal);
  console.log('Stopped.');
  return code;
}

/** Restarts what ends and, with --watch, what changes. Returns on a signal. */
async function keepRunning(started: Started, options: UpOptions, signal: AbortSignal): Promise<void> {
  const report = (message: string) => console.log(`${new Date().toLocaleTimeString('en-GB')} ${message}`);
  const supervise = (unit: Supervised) => new Supervisor(unit, { ...SUPERVISOR_DEFAULTS, report });
  const services = new Map([...started.supervised].map(([name, unit]) => [name, supervise(unit)]));
  const servers = [...started.servers.values()].flatMap((server) => supervisedServer(server) ?? []).map(supervise);
  const running = [...services.values(), ...servers].map((supervisor) => supervisor.run(signal));
  if (options.watch) {
    const watcher = new SourceWatcher({
      root: projectRoot,
      report,
      restart(names, why) {
        for (const name of names) services.get(name)?.restart(why);
      },
      async migrate() {
        const applied = await migrateSchema(started, localDataRoot());
        if (applied.length > 0) report(`Schema migrated: ${applied.join(', ')}`);
      },
    });
    running.push(watcher.run(signal));
  }
  await Promise.all(running);
}
