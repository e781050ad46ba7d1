import unstale from './index.js';

export const { connect, Client, Cache, Lease, Receipt, UnstaleError } = unstale;
export default unstale;
