import type { Options } from 'amqplib';

const HEARTBEAT_S = 10;

/** The URLs of a setting that names one broker, or several with commas between them. */
export function brokerUrls(setting: string): readonly string[] {
  return setting.split(',').map((url) => url.trim());
}

/** The nodes of a cluster, one of which is connected to at a time. */
export class Brokers {
  /** The node for the next attempt. amqplib reads it anew at each one. */
  readonly target: Options.Connect = {};
  private readonly all: readonly Options.Connect[];
  /** The first one by chance, so that the processes spread over the nodes. */
  private at: number;

  /** @throws for a URL that is none */
  constructor(setting: string) {
    this.all = brokerUrls(setting).map(optionsOf);
    this.at = Math.floor(Math.random() * this.all.length);
    this.next();
  }

  get count(): number {
    return this.all.length;
  }

  next(): void {
    this.at = (this.at + 1) % this.all.length;
    Object.assign(this.target, this.all[this.at]);
  }
}

function optionsOf(url: string): Options.Connect {
  const { protocol, hostname, port, username, password, pathname, searchParams } = new URL(url);
  return {
    protocol: protocol.replace(/:$/, ''),
    hostname: hostname.replace(/^\[|\]$/g, ''),
    port: port === '' ? (protocol === 'amqps:' ? 5671 : 5672) : Number(port),
    username: username === '' && password === '' ? 'guest' : decodeURIComponent(username),
    password: username === '' && password === '' ? 'guest' : decodeURIComponent(password),
    // amqplib decodes it.
    vhost: pathname.slice(1) || '/',
    heartbeat: Number(searchParams.get('heartbeat') ?? HEARTBEAT_S),
    ...(searchParams.has('frameMax') && { frameMax: Number(searchParams.get('frameMax')) }),
    ...(searchParams.has('channelMax') && { channelMax: Number(searchParams.get('channelMax')) }),
  };
}
