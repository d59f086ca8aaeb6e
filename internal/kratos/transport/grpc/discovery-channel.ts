import {
  type ChannelOptions,
  Client,
  credentials,
  experimental,
  Metadata,
  connectivityState as State,
  status,
} from '@grpc/grpc-js';
import {
  HealthCheckRequest,
  type HealthCheckResponse,
  HealthService,
  HealthCheckResponse_ServingStatus as ServingStatus,
} from '../../../../gen/grpc/health/v1/health.js';
import type { Discovery, Instances } from '../../registry/discovery.js';
import { type ServiceInstance, weightOf } from '../../registry/service-registry.js';

const SCHEME = 'discovery';
const POLICY = 'kratos_weighted';
/** Channel option that holds the Discovery. Its prefix excludes it from the key by which channels share connections. */
const DISCOVERY = `${experimental.SUBCHANNEL_ARGS_EXCLUDE_KEY_PREFIX}.kratos_discovery`;

type Endpoint = experimental.Endpoint;
type Weights = Readonly<Record<string, number>>;

/** Channel options of a client whose target is `discovery:///<service>`. */
export function discoveryOptions(discovery: Discovery): ChannelOptions {
  return { [DISCOVERY]: discovery };
}

export function isDiscoveryTarget(addr: string): boolean {
  return addr.startsWith(`${SCHEME}:///`);
}

/** Resolves `discovery:///<service>` to the gRPC endpoints of its instances, each with its weight. */
class DiscoveryResolver implements experimental.Resolver {
  private readonly discovery: Discovery;
  private readonly name: string;
  private stop: (() => void) | undefined;

  constructor(
    target: experimental.GrpcUri,
    private readonly listener: experimental.ResolverListener,
    options: ChannelOptions,
  ) {
    const discovery: unknown = options[DISCOVERY];
    if (!discovery) throw new Error(`${experimental.uriToString(target)} requires service discovery`);
    this.discovery = discovery as Discovery;
    this.name = target.path;
  }

  static getDefaultAuthority(target: experimental.GrpcUri): string {
    return target.path;
  }

  /** Starts the watch, once: it reports changes by itself. */
  updateResolution(): void {
    this.stop ??= this.discovery.watch(this.name, (found) => this.notify(found));
  }

  destroy(): void {
    this.stop?.();
    this.stop = undefined;
  }

  private notify(found: Instances): void {
    const weights = found.kind === 'known' ? addressesOf(found.instances) : {};
    if (Object.keys(weights).length === 0) {
      const details = found.kind === 'unknown' ? found.error : `no instance of ${this.name} has a gRPC endpoint`;
      const error = { code: status.UNAVAILABLE, details, metadata: new Metadata() };
      this.listener(experimental.statusOrFromError(error), {}, null, '');
      return;
    }
    const endpoints = Object.keys(weights).map((address): Endpoint => ({ addresses: [toAddress(address)] }));
    const config = { loadBalancingConfig: [{ [POLICY]: { weights } }], methodConfig: [] };
    this.listener(experimental.statusOrFromValue(endpoints), {}, experimental.statusOrFromValue(config), '');
  }
}

/** "host:port" → weight. The workers of a replica share an address and count once. */
function addressesOf(instances: readonly ServiceInstance[]): Weights {
  const weights: Record<string, number> = {};
  for (const instance of instances) {
    for (const endpoint of instance.endpoints) {
      const match = /^grpcs?:\/\/([^/?#\s]+:[0-9]{1,5})/.exec(endpoint);
      if (match?.[1]) weights[match[1]] = Math.max(weights[match[1]] ?? 0, weightOf(instance));
    }
  }
  return weights;
}

function toAddress(text: string): { host: string; port: number } {
  const colon = text.lastIndexOf(':');
  return { host: text.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(text.slice(colon + 1)) };
}

class WeightedConfig implements experimental.TypedLoadBalancingConfig {
  constructor(readonly weights: Weights) {}

  static createFromJson(json: { weights?: Weights }): WeightedConfig {
    return new WeightedConfig(json.weights ?? {});
  }

  getLoadBalancerName(): string {
    return POLICY;
  }

  toJsonObject(): object {
    return { [POLICY]: { weights: this.weights } };
  }
}

/**
 * Distributes calls over connected instances by weight, except those that report NOT_SERVING
 * (grpc.health.v1.Health/Watch on the same connection). If all report it, all are used: an instance that may fail is
 * better than none.
 */
class WeightedBalancer implements experimental.LoadBalancer {
  private children = new Map<string, Child>();
  private paused = false;
  private lastError = 'no connection yet';

  constructor(private readonly helper: experimental.ChannelControlHelper) {}

  updateAddressList(
    endpoints: experimental.StatusOr<Endpoint[]>,
    config: experimental.TypedLoadBalancingConfig,
    options: ChannelOptions,
    note: string,
  ): boolean {
    if (!(config instanceof WeightedConfig)) return false;
    if (!endpoints.ok) {
      // Connected instances stay in use.
      if (this.children.size === 0) this.fail(endpoints.error.details);
      return true;
    }
    this.paused = true;
    const before = this.children;
    this.children = new Map();
    for (const endpoint of endpoints.value) {
      const key = experimental.endpointToString(endpoint);
      const [address] = endpoint.addresses;
      const name = address && 'host' in address ? nameOf(address) : key;
      const child = before.get(key) ?? new Child(endpoint, this.helper, options, note, (error) => this.changed(error));
      before.delete(key);
      child.weight = config.weights[name] ?? 1;
      this.children.set(key, child);
    }
    for (const gone of before.values()) gone.destroy();
    this.paused = false;
    this.changed(null);
    return true;
  }

  exitIdle(): void {
    for (const child of this.children.values()) child.exitIdle();
  }

  resetBackoff(): void {}

  destroy(): void {
    this.paused = true;
    for (const child of this.children.values()) child.destroy();
    this.children.clear();
  }

  getTypeName(): string {
    return POLICY;
  }

  private changed(error: string | null): void {
    if (error !== null) this.lastError = error;
    if (this.paused) return;
    const all = [...this.children.values()];
    // Every instance stays connected, so that it can take over immediately.
    for (const child of all) if (child.state === State.IDLE) child.exitIdle();
    const ready = all.filter((child) => child.state === State.READY);
    const serving = ready.filter((child) => child.health === 'serving');
    const asked = ready.filter((child) => child.health === 'asked');
    const waiting = asked.length > 0 || all.some((c) => c.state === State.CONNECTING || c.state === State.IDLE);
    if (serving.length > 0) this.pick(serving);
    else if (ready.length > asked.length && !waiting) this.pick(ready);
    else if (waiting) this.helper.updateState(State.CONNECTING, new experimental.QueuePicker(this), null);
    else this.fail(this.lastError);
  }

  private pick(children: readonly Child[]): void {
    this.helper.updateState(State.READY, new WeightedPicker(children), null);
  }

  private fail(details: string): void {
    const picker = new experimental.UnavailablePicker({ details: `no instance can be reached: ${details}` });
    this.helper.updateState(State.TRANSIENT_FAILURE, picker, details);
  }
}

function nameOf({ host, port }: { host: string; port: number }): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Smooth weighted round robin: 3 and 1 give a a b a, not a a a b. */
class WeightedPicker implements experimental.Picker {
  private readonly turns: { readonly picker: experimental.Picker; readonly weight: number; credit: number }[];
  private readonly sum: number;

  constructor(children: readonly Child[]) {
    this.sum = children.reduce((sum, child) => sum + child.weight, 0);
    // A random start, so that many clients do not all begin with the same instance.
    this.turns = children.map((c) => ({ picker: c.picker, weight: c.weight, credit: Math.random() * c.weight }));
  }

  pick(args: experimental.PickArgs): experimental.PickResult {
    let best = this.turns[0];
    for (const turn of this.turns) {
      turn.credit += turn.weight;
      if (best === undefined || turn.credit > best.credit) best = turn;
    }
    if (best === undefined) throw new Error('a picker without instances');
    best.credit -= this.sum;
    return best.picker.pick(args);
  }
}

/** An instance: its connection and its reported health. */
class Child {
  weight = 1;
  private readonly leaf: experimental.LeafLoadBalancer;
  private follower: HealthFollower | undefined;

  constructor(
    endpoint: Endpoint,
    helper: experimental.ChannelControlHelper,
    options: ChannelOptions,
    note: string,
    onChange: (error: string | null) => void,
  ) {
    const own = experimental.createChildChannelControlHelper(helper, {
      createSubchannel: (address, args) => {
        const subchannel = helper.createSubchannel(address, args);
        // A leaf creates a new connection after it was idle.
        this.follower?.stop();
        this.follower = new HealthFollower(subchannel, () => onChange(null));
        return subchannel;
      },
      updateState: (_state, _picker, error) => onChange(error),
    });
    this.leaf = new experimental.LeafLoadBalancer(endpoint, own, options, note);
    this.leaf.startConnecting();
  }

  get state(): State {
    return this.leaf.getConnectivityState();
  }

  get picker(): experimental.Picker {
    return this.leaf.getPicker();
  }

  get health(): HealthState {
    return this.follower?.state ?? 'asked';
  }

  exitIdle(): void {
    this.leaf.exitIdle();
  }

  destroy(): void {
    this.follower?.stop();
    this.leaf.destroy();
  }
}

type HealthState = 'asked' | 'serving' | 'not-serving';

/** An instance that has not reported its health by then counts as not serving. */
const ANSWER_MS = 1_000;
const RETRY_MS = 200;
const MAX_RETRY_MS = 5_000;
const WATCH = HealthService.watch;

/** Watches the health of the instance at the other end of a connection. */
class HealthFollower {
  state: HealthState = 'asked';
  private client: Client | undefined;
  private retry: NodeJS.Timeout | undefined;
  private answer: NodeJS.Timeout | undefined;
  private cancel: () => void = () => undefined;
  private failures = 0;
  private readonly onState = (_: unknown, before: State, now: State) => {
    if (now === State.READY) this.begin();
    else if (before === State.READY) this.end('asked');
  };

  constructor(
    private readonly subchannel: experimental.SubchannelInterface,
    private readonly onChange: () => void,
  ) {
    subchannel.ref();
    subchannel.addConnectivityStateListener(this.onState);
    if (subchannel.getConnectivityState() === State.READY) this.begin();
  }

  stop(): void {
    this.subchannel.removeConnectivityStateListener(this.onState);
    this.end('asked');
    this.subchannel.unref();
  }

  private begin(): void {
    this.end(this.state);
    const client = new Client(this.subchannel.getAddress(), credentials.createInsecure(), {
      channelOverride: this.subchannel.getChannel(),
    });
    this.client = client;
    const { path, requestSerialize, responseDeserialize } = WATCH;
    const request = HealthCheckRequest.create({ service: '' });
    const stream = client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, request);
    stream.on('data', (reply: HealthCheckResponse) => {
      if (this.client !== client) return;
      this.failures = 0;
      clearTimeout(this.answer);
      this.set(reply.status === ServingStatus.SERVING ? 'serving' : 'not-serving');
    });
    stream.on('status', ({ code }) => {
      if (this.client !== client) return;
      this.client = undefined;
      clearTimeout(this.answer);
      // Without a health service, being connected counts as healthy.
      if (code === status.UNIMPLEMENTED) this.set('serving');
      else this.again();
    });
    // The status reports it too.
    stream.on('error', () => undefined);
    this.cancel = () => stream.cancel();
    this.answer = setTimeout(() => this.set('not-serving'), ANSWER_MS);
    this.answer.unref();
  }

  /** The stream broke, but the connection did not: the instance is stopping or overloaded. */
  private again(): void {
    this.set('not-serving');
    const delayMs = Math.min(MAX_RETRY_MS, RETRY_MS * 2 ** Math.min(this.failures++, 10));
    this.retry = setTimeout(
      () => {
        if (this.subchannel.getConnectivityState() === State.READY) this.begin();
      },
      delayMs * (0.5 + Math.random() / 2),
    );
    this.retry.unref();
  }

  private end(state: HealthState): void {
    clearTimeout(this.retry);
    clearTimeout(this.answer);
    const client = this.client;
    this.client = undefined;
    if (client) this.cancel();
    this.state = state;
  }

  private set(state: HealthState): void {
    if (this.state === state) return;
    this.state = state;
    this.onChange();
  }
}

let registered = false;

/** Registers the scheme and the policy with grpc-js, once per process. */
export function registerDiscovery(): void {
  if (registered) return;
  registered = true;
  experimental.registerResolver(SCHEME, DiscoveryResolver);
  experimental.registerLoadBalancerType(POLICY, WeightedBalancer, WeightedConfig);
}
