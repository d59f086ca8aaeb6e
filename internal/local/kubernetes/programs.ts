import { existsSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { projectRoot } from '../project.js';
import { isExecutable } from '../servers/binaries.js';

export const PROGRAMS = [
  'etcd',
  'kube-apiserver',
  'kube-controller-manager',
  'kube-scheduler',
  'kubectl',
  'kwok',
] as const;
export type Program = (typeof PROGRAMS)[number];

export const BUILD_COMMAND = 'deploy/kubernetes/local/build';

/** Where deploy/kubernetes/local/build puts the programs. */
export function programsFolder(): string {
  const given = process.env.KAIMAI_KUBERNETES_BIN;
  if (given) return given;
  const cache = process.env.XDG_CACHE_HOME || join(homedir(), '.cache');
  return join(cache, 'kaimai', `kubernetes-${kubernetesVersion()}`);
}

/** The path of each program; undefined if one is missing. */
export function findPrograms(): Readonly<Record<Program, string>> | undefined {
  const folder = programsFolder();
  if (!existsSync(folder)) return undefined;
  const paths = PROGRAMS.map((name) => [name, join(folder, name)] as const);
  if (!paths.every(([, path]) => isExecutable(path))) return undefined;
  return Object.fromEntries(paths) as Record<Program, string>;
}

/** Why there is no Kubernetes on this machine. */
export function missingPrograms(): string {
  return `no Kubernetes programs in ${programsFolder()}: run ${BUILD_COMMAND} (needs Go, takes about ten minutes once)`;
}

function kubernetesVersion(): string {
  const file = join(projectRoot, 'deploy/kubernetes/local/control-plane/go.mod');
  const version = /^\s*k8s\.io\/kubernetes (v\S+)/m.exec(readFileSync(file, 'utf8'))?.[1];
  if (version === undefined) throw new Error(`${file} does not require k8s.io/kubernetes`);
  return version;
}
