-- Counts the orders that there were before their statistics. It reads them once and locks none; orders that change meanwhile count themselves.

SELECT order_stats_recount();
