export * from './index.js';
import * as unstale from './index.js';
export default unstale;
