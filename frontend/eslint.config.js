import { defineConfigWithVueTs, vueTsConfigs } from "@vue/eslint-config-typescript";
import prettier from "eslint-config-prettier";
import vue from "eslint-plugin-vue";
import accessibility from "eslint-plugin-vuejs-accessibility";

export default defineConfigWithVueTs(
  { ignores: ["dist", "node_modules"] },
  vue.configs["flat/recommended"],
  vueTsConfigs.strict,
  accessibility.configs["flat/recommended"],
  {
    rules: {
      "vue/block-order": ["error", { order: ["script", "template", "style"] }],
      "vue/component-api-style": ["error", ["script-setup"]],
      "vuejs-accessibility/label-has-for": ["error", { required: { some: ["nesting", "id"] } }],
    },
  },
  prettier,
);
