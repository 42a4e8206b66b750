import "./styles/tokens.css";
import "./styles/base.css";

import { createApp } from "vue";

import App from "./App.vue";
import { applyLanguage } from "./wording/language";

applyLanguage();

createApp(App).mount("#app");
