// Kept by hand; `__test__/types.test-d.ts` is compiled against it.
/// <reference types="node" />

import { EventEmitter } from 'node:events';

/**
 * A duration: milliseconds, or a string with a unit (`"250ms"`, `"30s"`, `"5m"`, `"1h"`).
 */
export type Duration = number | string;

/** Options of a client. Each may also stand in the URL's query or in an environment variable, in snake case. */
export interface ClientOptions {
  /** Where the broker is: `memory://name` (inside this process, the default), `mqtt://`, `mqtts://`, `ws://`, `wss://`,
   * `awsiot://endpoint`. */
  url?: string;
  /** A name for this service, 1 to 32 of `[A-Za-z0-9_-]`. Default `"unstale"`. */
  app?: string;
  /** Root of the topics. Default `"cache/invalidate"`. */
  topic?: string;
  /** No read is staler than this. 500 ms to 1 h, default 30 s. */
  stalenessBound?: Duration;
  /** How long `connect` waits for the broker; also the limit of each later attempt. Default 5 s. */
  connectTimeout?: Duration;
  /** Return from `connect` before the broker answers, and keep trying. Default false. */
  lazy?: boolean;
  /** MQTT keep-alive, whole seconds. Default 30 s. */
  keepAlive?: Duration;
  /** Invalidations that may wait to be published before they are collapsed to coarser ones. Default 10,000. */
  outboxLimit?: number;
  /** A folder, made if missing, in which invalidations wait that the broker has not taken yet, so that they survive this process: the next
   * start with this folder sends them. Processes may share one; one per broker. Unix only. Default: none. */
  outboxDir?: string;
  /** Most publications a second. Default: no limit; 80 with AWS IoT Core. */
  maxPublishRate?: number;
  /** Whether the broker may reorder one publisher's messages. Default: true with AWS IoT Core, else false. */
  reordering?: boolean;
  /** How long a version that was invalidated is remembered. Default 5 min. */
  tombstoneTtl?: Duration;
  /** MQTT client id. Default: made from `app` and random bits. */
  clientId?: string;
  /** `"5"` (default) or `"3.1.1"`. */
  mqttVersion?: string;
  username?: string;
  password?: string;
  /** Keys, each `id:secret` (the secret from `openssl rand -hex 32`). The first signs what this client publishes; what it receives must be
   * signed with one of them, or is refused and counted. Default: none. */
  signingKey?: string | string[];
  /** With `signingKey`: whether to refuse what is not signed. `false` while keys are being introduced. Default true. */
  requireSignatures?: boolean;
  tls?: {
    /** PEM file of the authorities that are trusted. */
    caFile?: string;
    /** PEM file of this client's certificate. */
    certFile?: string;
    /** PEM file of its key. */
    keyFile?: string;
    /** Protocols to offer. */
    alpn?: string[];
  };
  /** For `awsiot://` without a client certificate. */
  aws?: {
    /** Default: from the endpoint's name, the environment or the profile. */
    region?: string;
    /** A profile of the shared files. Default: `AWS_PROFILE`, else `default`. */
    profile?: string;
    /** Default: the usual chain (environment, shared files, container, instance), asked at every connect. */
    accessKeyId?: string;
    secretAccessKey?: string;
    sessionToken?: string;
    /** A custom authorizer's name. Default: the account's default one. */
    authorizer?: string;
    /** The name under which it expects `token`. */
    tokenKeyName?: string;
    token?: string;
    /** The token's signature in Base64, if the authorizer wants one. */
    tokenSignature?: string;
  };
}

/** Options of a cache. */
export interface CacheOptions {
  /** How long an entry lives at most. Default 5 min. */
  ttl?: Duration;
  /** Lives end early by up to this share, so that entries loaded together do not expire together. 0 to 1, default 0.1. */
  ttlJitter?: number;
  /** Entries held at most. Default 10,000. */
  maxEntries?: number;
  /** How long "not found" is cached. Default: not at all. */
  negativeTtl?: Duration;
  /** How long callers wait for another caller's load. Default: as long as it takes. */
  loadTimeout?: Duration;
}

/** What a value is stored with. */
export interface EntryOptions {
  /** Milliseconds, instead of the cache's `ttl`. */
  ttl?: number;
  /** Names by which `invalidateTags` reaches the entry. */
  tags?: string[];
  /** Keys with which this entry falls, whoever invalidates them. */
  dependsOn?: string[];
  /** The source's version of the value, 0 to 2^53 - 1. A value is refused if a higher version is known. */
  version?: number;
}

/** What a value is stored with by `set` and `update`. */
export interface StoreOptions extends EntryOptions {
  /** The lease that was taken before the source was read or written. */
  lease?: Lease;
}

/** State of a client's connection. */
export interface Status {
  /** `connecting`: never connected so far; `degraded`: entries are served by their age only. */
  state: 'connecting' | 'live' | 'degraded' | 'closed';
  /** Why, in words; empty when live. */
  reason: string;
  transport: string;
  /** The broker, without secrets. */
  url: string;
  clientId: string;
  /** This client's publisher stream. */
  src: string;
  stalenessBoundMs: number;
  caches: number;
  connects: number;
  /** Messages that the broker has not acknowledged yet. */
  unsent: number;
  /** Events that no listener saw because too many were waiting. */
  eventsDropped: number;
  /** Why what is unsent would not survive this process, if `outboxDir` is given and cannot be written. */
  outboxDirError: string | null;
}

/** Counters of a cache since it was opened. */
export interface CacheStats {
  /** Entries held now, expired ones not yet replaced included. */
  entries: number;
  hits: number;
  misses: number;
  loads: number;
  loadFailures: number;
  /** Reads that waited for another caller's load. */
  joins: number;
  openLoads: number;
  sets: number;
  /** Values refused: invalidated while they were loaded, older than the bound, or of a lower version. */
  fenced: number;
  evictions: number;
  invalidationsLocal: number;
  invalidationsRemote: number;
  plain: number;
  own: number;
  empty: number;
  malformed: number;
  /** Messages that were not believed, by reason: `unsigned`, `unknown_key`, `bad_signature`, `replayed`. Empty without `signingKey`. */
  refused: Record<string, number>;
  /** How often doubt opened a new epoch, by reason. */
  doubts: Record<string, number>;
  epoch: number;
}

/** An invalidation that was applied to a cache. */
export interface Invalidation {
  namespace: string;
  keys: string[];
  tags: string[];
  prefixes: string[];
  /** Everything. */
  all: boolean;
  origin: 'local' | 'remote';
  /** The publisher stream, of a numbered remote message. */
  src: string | null;
  /** The message's number in it. */
  seq: number | null;
}

/** A line of the log. */
export interface LogLine {
  level: 'error' | 'warn' | 'info';
  target: string;
  message: string;
  fields: Record<string, unknown>;
}

/** Name of an error's kind. */
export type ErrorCode =
  | 'InvalidArgument'
  | 'Config'
  | 'Connect'
  | 'Auth'
  | 'Tls'
  | 'Timeout'
  | 'Closed'
  | 'Load'
  | 'Internal'
  | 'Forked';

/** Every error of this library. A loader's own error reaches the caller unchanged. */
export class UnstaleError extends Error {
  private constructor();
  readonly name: 'UnstaleError';
  /** The kind's name, the same in every language. */
  readonly code: ErrorCode;
  /** The kind's number, the same in every language. */
  readonly kind: number;
}

/** What an invalidation or update returns. */
export class Receipt {
  private constructor();
  /** Names the invalidation for `client.waitFor` in another process; fit for an HTTP header. */
  readonly token: string;
  /** Whether `update` stored the value here; false for an invalidation. */
  readonly stored: boolean;
  /** Waits until the broker acknowledged it. False: `ms` ran out, or the client closed before. */
  delivered(ms: number): Promise<boolean>;
  toJSON(): { token: string; stored: boolean };
}

/** Permission to fill a key. One `set` or `update` uses it up. */
export class Lease {
  private constructor();
  /** The key it is for. */
  readonly key: string;
  /** Gives it back unused, now instead of when it is garbage-collected. */
  release(): void;
}

/** What `cache.wrap` returns. */
export interface Wrapped<A extends unknown[], V> {
  (...args: A): Promise<V | undefined>;
  /** The key for these arguments. */
  key(...args: A): string;
  /** Invalidates the entry for these arguments, here and everywhere else. */
  invalidate(...args: A): Receipt;
}

/** What a loader returns. */
export type Loaded<V> = V | null | undefined | PromiseLike<V | null | undefined>;

export interface CacheEvents {
  invalidated: [invalidation: Invalidation];
}

/**
 * One namespace of live values, kept fresh by its client.
 *
 * Values are the very objects that were stored: treat them as read-only. Anything may be a value but `undefined` and `null`,
 * which mean "not found".
 *
 * Methods throw {@link UnstaleError}: `InvalidArgument` (a key is 1 to 1,024 bytes of UTF-8 without NUL), `Closed`.
 */
export class Cache<V extends {} = any> extends EventEmitter {
  private constructor();
  /** The namespace; empty for none. */
  readonly namespace: string;
  /** Entries held, expired ones not yet replaced included. */
  readonly size: number;

  /** The value held under `key`, unless it may be staler than the bound. Never waits. */
  get(key: string): V | undefined;
  /** Whether `get` would find a value; counts nothing. */
  has(key: string): boolean;
  /** Stores a value that is current now, in this process only. False: refused (fenced lease, lower version). */
  set(key: string, value: V, options?: StoreOptions): boolean;
  /**
   * The value under `key`, loaded by `loader` if it is not held; `undefined` if the source has none. Concurrent callers share
   * one load. A value that was invalidated while it was loaded goes to those who waited and is not stored.
   * The loader's own error reaches every caller who waited.
   */
  getOrLoad(key: string, loader: (key: string) => Loaded<V>, options?: EntryOptions): Promise<V | undefined>;
  /** A function that reads through this cache: `key` makes the key from the arguments. */
  wrap<A extends unknown[]>(
    fn: (...args: A) => Loaded<V>,
    options: EntryOptions & { key: (...args: A) => string },
  ): Wrapped<A, V>;
  /** Notes where the history of `key` stands; take it before the source is read or written. */
  lease(key: string): Lease;
  /**
   * Stores a new value here and invalidates the old one everywhere else, after the source was written.
   * Needs `lease`, taken before the write, or `version`.
   */
  update(key: string, value: V, options: StoreOptions & ({ lease: Lease } | { version: number })): Receipt;
  /** Removes `key` here at once and everywhere else as soon as the network allows. `version` is now current: it stays. */
  invalidate(key: string, options?: { version?: number }): Receipt;
  /** The same for several keys, each with the version that is now current if it is known. All or none. */
  invalidateMany(
    keys: Iterable<string> | ReadonlyMap<string, number | null | undefined> | Record<string, number | null | undefined>,
  ): Receipt;
  /** Invalidates every entry that carries one of `tags`. */
  invalidateTags(tags: Iterable<string>): Receipt;
  /** Invalidates every entry whose key begins with `prefix`. */
  invalidatePrefix(prefix: string): Receipt;
  /** Invalidates everything. */
  invalidateAll(): Receipt;
  /** Removes `key` in this process only. Whether it was held. */
  evict(key: string): boolean;
  /** Removes everything in this process only. */
  clearLocal(): void;
  /** Counters since the cache was opened. */
  stats(): CacheStats;

  on<E extends keyof CacheEvents>(event: E, listener: (...args: CacheEvents[E]) => void): this;
  on(event: string | symbol, listener: (...args: any[]) => void): this;
  once<E extends keyof CacheEvents>(event: E, listener: (...args: CacheEvents[E]) => void): this;
  once(event: string | symbol, listener: (...args: any[]) => void): this;
}

export interface ClientEvents {
  /** The state of the connection changed. */
  status: [status: Status];
  /** The library has something to say. Nothing is printed. */
  log: [line: LogLine];
}

/** A connection to a broker, and the caches that it keeps fresh. It does not keep the process alive. */
export class Client extends EventEmitter {
  private constructor();
  /**
   * Opens a cache, once per namespace. A namespace is empty or 1 to 64 of `[A-Za-z0-9._-]`, not beginning with `_`.
   */
  cache<V extends {} = any>(namespace: string, options?: CacheOptions): Cache<V>;
  /** What is known of the connection. */
  status(): Status;
  /**
   * Waits until this process has applied the invalidation that `token` (of a receipt, elsewhere) names. False: `ms` ran out.
   */
  waitFor(token: string, ms: number): Promise<boolean>;
  /** Sends what is unsent, at most `ms` long, and disconnects. Resolves to the number of messages left unsent. */
  close(ms?: number): Promise<number>;
  [Symbol.asyncDispose](): Promise<void>;

  on<E extends keyof ClientEvents>(event: E, listener: (...args: ClientEvents[E]) => void): this;
  on(event: string | symbol, listener: (...args: any[]) => void): this;
  once<E extends keyof ClientEvents>(event: E, listener: (...args: ClientEvents[E]) => void): this;
  once(event: string | symbol, listener: (...args: any[]) => void): this;
}

/** Connects; rejects with {@link UnstaleError}: `Config`, `Connect`, `Auth`, `Tls`, `Timeout`. */
export function connect(url?: string | null, options?: ClientOptions): Promise<Client>;
export function connect(options: ClientOptions): Promise<Client>;
