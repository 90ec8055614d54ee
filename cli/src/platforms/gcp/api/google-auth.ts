/** Loaded when it is needed. By name and not as a whole: bundled, a module of this form has no names of its own. */
export { GoogleAuth } from 'google-auth-library';
