// Compiled, never run: what must and what must not type-check.
import { connect, Cache, Client, Invalidation, Lease, LogLine, Receipt, Status, UnstaleError } from 'unstale';

interface User {
  id: number;
  name: string;
}

declare function findUser(id: number): Promise<User | null>;

async function main(): Promise<void> {
  const client: Client = await connect('mqtt://localhost', { stalenessBound: '10s', keepAlive: 30_000, tls: { caFile: 'ca.pem' } });
  await connect();
  await connect({ url: 'memory://', lazy: true });
  // @ts-expect-error: unknown option
  await connect('memory://', { staleness_bound: '10s' });
  // @ts-expect-error: not a duration
  await connect('memory://', { stalenessBound: true });

  const users: Cache<User> = client.cache<User>('users', { ttl: 60_000, maxEntries: 1_000, negativeTtl: '5s' });
  const user: User | undefined = users.get('user:1');
  const loaded: User | undefined = await users.getOrLoad('user:1', (key: string) => findUser(Number(key.slice(5))), { tags: ['users'] });
  const stored: boolean = users.set('user:1', { id: 1, name: 'Ann' }, { ttl: 1_000, dependsOn: ['org:1'], version: 3 });
  // @ts-expect-error: not a User
  users.set('user:1', { id: 1 });
  // @ts-expect-error: "not found" is not a value
  client.cache<string>('strings').set('a', null);
  // @ts-expect-error: read-through takes its own lease
  await users.getOrLoad('user:1', () => null, { lease: users.lease('user:1') });

  const lease: Lease = users.lease('user:1');
  const receipt: Receipt = users.update('user:1', { id: 1, name: 'Bob' }, { lease });
  users.update('user:1', { id: 1, name: 'Bob' }, { version: 4 });
  // @ts-expect-error: needs a lease or a version
  users.update('user:1', { id: 1, name: 'Bob' }, { ttl: 5 });
  lease.release();

  const find = users.wrap(findUser, { key: (id) => `user:${id}`, tags: ['users'] });
  const found: User | undefined = await find(7);
  find.invalidate(7).token satisfies string;
  // @ts-expect-error: the key is missing
  users.wrap(findUser, {});
  // @ts-expect-error: ids are numbers
  await find('7');

  users.invalidate('user:1', { version: 5 });
  users.invalidateMany(['a', 'b']);
  users.invalidateMany(new Map([['a', 1]]));
  users.invalidateMany({ a: 1, b: undefined });
  users.invalidateTags(new Set(['t']));
  users.invalidatePrefix('user:');
  users.invalidateAll();
  users.evict('a') satisfies boolean;
  users.clearLocal();
  users.has('a') satisfies boolean;
  users.size satisfies number;
  users.stats().hits satisfies number;

  users.on('invalidated', (event) => event satisfies Invalidation);
  client.on('status', (status) => status satisfies Status);
  client.once('log', (line) => line satisfies LogLine);
  const token: string = receipt.token;
  const applied: boolean = await client.waitFor(token, 1_000);
  const delivered: boolean = await receipt.delivered(1_000);
  const left: number = await client.close(2_000);
  await client[Symbol.asyncDispose]();

  try {
    users.get('');
  } catch (error) {
    if (error instanceof UnstaleError) {
      error.code satisfies string;
      if (error.code === 'InvalidArgument') error.kind satisfies number;
      // @ts-expect-error: no such kind
      if (error.code === 'Nonsense') return;
    }
  }
  // @ts-expect-error: made by `client.cache`
  new Cache();
  void [user, loaded, stored, found, applied, delivered, left];
}
void main;
