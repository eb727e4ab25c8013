// What paints for this page: the browser. `restyle serve --static` puts this file in the place of engine.js.

import { BrowserEngine } from "./browser_engine.js";

export const Film = null; // videos need a server
export const engine = new BrowserEngine();
