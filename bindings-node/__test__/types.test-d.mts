// Compiled, never run: the same types by `import`.
import unstale, { connect, UnstaleError } from 'unstale';

const client = await connect('memory://');
const cache = client.cache<string>('c');
cache.get('a') satisfies string | undefined;
unstale.connect satisfies typeof connect;
void UnstaleError;
await using other = await connect();
void other;
